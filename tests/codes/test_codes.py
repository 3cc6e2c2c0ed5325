import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse
import torch

from interp.codes.code_chunks import read_chunks
from interp.codes.code_store import CodeStore
from interp.codes.sparse_codes import SparseCodes, entry_fault
from interp.features.latent_matches import best_matches

ROWS, WIDTH = 23, 11


@pytest.fixture
def dense() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(ROWS, WIDTH, generator=generator)
    z[torch.rand(ROWS, WIDTH, generator=generator) < 0.7] = 0
    z[4] = 0
    return z


@pytest.fixture
def firings(dense) -> torch.Tensor:
    return dense.relu()


def test_codes_hold_what_the_dense_latents_hold(dense):
    codes = SparseCodes.from_dense(dense)
    assert torch.equal(codes.dense(), dense)
    assert codes.shape == (ROWS, WIDTH) and len(codes) == ROWS
    assert codes.nnz == (dense != 0).sum()
    assert torch.equal(codes.rows, dense.nonzero()[:, 0])


def test_slices_are_rows_of_the_dense_latents(dense):
    codes = SparseCodes.from_dense(dense)
    for rows in (slice(3, 9), slice(None), slice(-4, None), slice(5, 5), slice(9, 3), slice(20, 99)):
        assert torch.equal(codes[rows].dense(), dense[rows])
    with pytest.raises(IndexError, match="step 2"):
        codes[::2]
    with pytest.raises(TypeError, match="slices of rows, got 3"):
        codes[3]


def test_firings_and_maxima_are_those_of_the_dense_latents(dense):
    codes = SparseCodes.from_dense(dense)
    before = [tensor.clone() for tensor in (codes.offsets, codes.latents, codes.values)]
    positive = codes.positive()
    assert torch.equal(positive.dense(), dense.relu()) and positive.nnz == (dense > 0).sum() < codes.nnz
    assert positive.positive() is positive
    assert torch.equal(codes.maxima(), dense.relu().amax(0)) and torch.equal(positive.maxima(), codes.maxima())
    assert codes[4:5].positive().nnz == 0 and not codes[4:5].maxima().any()
    picks = SparseCodes.from_topk(torch.tensor([[2, 0], [1, 3]]), torch.tensor([[1.0, 2.0], [3.0, 0.0]]), 4)
    assert picks.positive().offsets.tolist() == [0, 2, 3], "a pick of 0 does not fire"
    best_matches(codes, positive)
    for tensor, kept in zip((codes.offsets, codes.latents, codes.values), before, strict=True):
        assert torch.equal(tensor, kept), "reading codes does not change them"


def test_chunks_have_the_firings_of_the_chosen_latents_and_rows(dense):
    chosen, rows = np.arange(WIDTH) % 3 > 0, np.arange(ROWS) % 2 > 0
    for chunk in read_chunks(SparseCodes.from_dense(dense), rows_per_chunk=7):
        here = slice(chunk.start, chunk.stop)
        z = dense[here].relu().numpy()
        np.testing.assert_array_equal(chunk.by_row.toarray(), z)
        np.testing.assert_array_equal(chunk.of_latents(chosen).by_row.toarray(), z * chosen)
        part = chunk.in_rows(rows[here])
        np.testing.assert_array_equal(part.by_row.toarray(), z * rows[here, None])
        assert (part.activations > 0).all() and (part.rows % 2 == 1).all()


def test_cat_joins_rows(dense):
    parts = [SparseCodes.from_dense(dense[a:b]) for a, b in ((0, 5), (5, 5), (5, ROWS))]
    assert torch.equal(SparseCodes.cat(parts).dense(), dense)


def test_topk_layout():
    codes = SparseCodes.from_topk(torch.tensor([[2, 0], [1, 3]]), torch.tensor([[1.0, 2.0], [3.0, 0.0]]), 4)
    assert codes.dense().tolist() == [[2, 0, 1, 0], [0, 3, 0, 0]]
    assert codes.nnz == 4


def test_scipy_and_back(dense):
    matrix = SparseCodes.from_dense(dense).scipy()
    np.testing.assert_array_equal(matrix.toarray(), dense.numpy())
    for kind in (scipy.sparse.csr_matrix, scipy.sparse.coo_array, scipy.sparse.csc_matrix):
        assert torch.equal(SparseCodes.from_scipy(kind(matrix)).dense(), dense)


def test_a_code_store_gives_rows_in_token_order_whatever_the_order_of_its_files(firings, tmp_path):
    store = CodeStore.create(tmp_path, n_rows=ROWS, d_sae=WIDTH)
    order = torch.randperm(ROWS, generator=torch.Generator().manual_seed(1))
    left_out, *runs = order.split([3, 9, 1, 10])
    for i, rows in enumerate(runs):
        store.write_file(str(i), rows, SparseCodes.from_dense(firings[rows]))
    expected = firings.clone()
    expected[left_out] = 0
    present = torch.ones(ROWS, dtype=torch.bool)
    present[left_out] = False
    for opened in (store, CodeStore(tmp_path)):
        assert len(opened) == ROWS and opened.has_file("2") and not opened.has_file("3")
        assert opened.nnz == (expected != 0).sum()
        for a, b in ((0, ROWS), (3, 9), (7, 7), (ROWS - 2, ROWS)):
            assert torch.equal(opened[a:b].dense(), expected[a:b])
            assert torch.equal(opened.present(a, b), present[a:b])


def test_code_store_resumes_after_the_existing_files(firings, tmp_path):
    first = torch.arange(10)
    CodeStore.create(tmp_path, n_rows=ROWS, d_sae=WIDTH).write_file("a", first, SparseCodes.from_dense(firings[:10]))
    store = CodeStore.create(tmp_path, n_rows=ROWS, d_sae=WIDTH)
    store.write_file("b", torch.arange(10, ROWS), SparseCodes.from_dense(firings[10:]))
    assert torch.equal(store[:].dense(), firings)


def test_a_number_too_small_for_single_precision_is_no_firing(tmp_path):
    store = CodeStore.create(tmp_path, n_rows=2, d_sae=3)
    store.write_file(
        "a",
        torch.arange(2),
        SparseCodes.from_dense(torch.tensor([[0.5, 1e-60, 0], [0, 0, 1e-60]], dtype=torch.float64)),
    )
    assert torch.equal(store[:].dense(), torch.tensor([[0.5, 0, 0], [0, 0, 0]])) and store.nnz == 1


def test_an_empty_code_store_is_all_zeros(tmp_path):
    store = CodeStore.create(tmp_path, n_rows=5, d_sae=WIDTH)
    assert torch.equal(store[1:4].dense(), torch.zeros(3, WIDTH))
    assert not store.present(0, 5).any()


@pytest.mark.parametrize("width", [1 << 16, (1 << 16) + 1])
def test_latent_ids_survive_storage_at_both_sides_of_sixteen_bits(tmp_path, width):
    codes = SparseCodes(torch.tensor([0, 2]), torch.tensor([0, width - 1]).int(), torch.tensor([1.0, 2.0]), width)
    store = CodeStore.create(tmp_path, n_rows=1, d_sae=width)
    store.write_file("a", torch.tensor([0]), codes)
    assert store[:].latents.tolist() == [0, width - 1]


@pytest.fixture
def finished(firings, tmp_path) -> CodeStore:
    """Return a store of two runs whose rows interleave."""
    store = CodeStore.create(tmp_path / "codes", n_rows=ROWS, d_sae=WIDTH)
    for start in (0, 1):
        store.write_file(f"0000{start}", torch.arange(start, ROWS, 2), SparseCodes.from_dense(firings[start::2]))
    store.finish()
    return store


def column(file: Path, name: str) -> np.memmap:
    """Return a column of a run, to change in place."""
    with open(file, "rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        entry = json.loads(stream.read(length))[name]
    dtype = {"I64": np.int64, "U16": np.uint16, "F32": np.float32}[entry["dtype"]]
    return np.memmap(file, dtype, "r+", 8 + length + entry["data_offsets"][0], tuple(entry["shape"]))


@pytest.mark.parametrize(
    "name, place, value, said",
    [
        ("row_ids", 0, -2, "row ids do not ascend"),
        ("row_ids", 3, 4, "row ids do not ascend"),
        ("row_ids", -1, ROWS, "row ids do not ascend"),
        ("offsets", 0, 1, "offsets do not run from 0"),
        ("offsets", -1, 1 << 40, "offsets do not run from 0"),
        ("offsets", 3, 1 << 40, "offsets do not ascend"),
        ("latents", 5, WIDTH, f"a latent is not in 0..{WIDTH - 1}"),
        ("values", 5, -1.0, "it has a firing that is not above 0"),
        ("values", 5, np.nan, "is nan at row"),
        ("values", 5, -np.inf, "is -inf at row"),
    ],
)
def test_codes_that_point_outside_are_refused_where_they_enter(finished, name, place, value, said):
    file = finished.path / "run-00000.safetensors"
    column(file, name)[place] = value
    with pytest.raises(ValueError, match=said) as refused:
        CodeStore(finished.path)[:]
    assert str(file) in str(refused.value) and "scan again" in str(refused.value)


def test_a_row_in_two_runs_is_refused(finished):
    column(finished.path / "run-00001.safetensors", "row_ids")[0] = 0
    with pytest.raises(ValueError, match=r"run-00001.safetensors is damaged: it has a row that another file has too"):
        CodeStore(finished.path)[:]


def test_a_finished_store_is_read_with_all_of_its_files(finished, firings):
    stray = finished.path / "run-00002.safetensors"
    shutil.copy(finished.path / "run-00000.safetensors", stray)
    assert torch.equal(CodeStore(finished.path)[:].dense(), firings)
    (finished.path / "run-00000.safetensors").unlink()
    with pytest.raises(ValueError, match="run-00000.safetensors is missing"):
        CodeStore(finished.path)
    shutil.copy(finished.path / "run-00001.safetensors", finished.path / "run-00000.safetensors")
    with pytest.raises(ValueError, match="run-00000.safetensors is damaged: it has 11 rows"):
        CodeStore(finished.path)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"n_rows": 23}', '{"n_rows": -1, "d_sae": 11}'])
def test_code_store_refuses_a_damaged_description(finished, text):
    (finished.path / "codes.json").write_text(text)
    with pytest.raises(ValueError, match="codes.json is damaged"):
        CodeStore(finished.path)


def test_flipped_bits_are_refused_by_name_or_give_codes_that_stay_inside(finished):
    generator, refused = np.random.default_rng(0), 0
    for file in sorted(finished.path.iterdir()):
        whole = file.read_bytes()
        for _ in range(100):
            place, bit = divmod(int(generator.integers(8 * len(whole))), 8)
            file.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << bit]) + whole[place + 1 :])
            try:
                codes = CodeStore(finished.path)[:]
            except ValueError as error:
                assert str(file if file.suffix != ".json" else finished.path) in str(error)
                refused += 1
            else:
                arrays = (codes.offsets.numpy(), codes.latents.numpy(), codes.values.numpy())
                assert entry_fault(*arrays, codes.d_sae) is None
        file.write_bytes(whole)
    assert refused > 100


def test_a_latent_that_fires_twice_on_a_row_does_not_pass_the_check():
    latents = torch.tensor([[2, 0], [1, 1]])
    SparseCodes.from_topk(latents, torch.tensor([[1.0, 1.0], [1.0, 0.0]]), 3).check(2)
    with pytest.raises(ValueError, match="latent 1 has several firings at row 1"):
        SparseCodes.from_topk(latents, torch.ones(2, 2), 3).check(2)


@pytest.mark.parametrize("change", [{"offsets": [0, 2, 1]}, {"offsets": [1, 1, 2]}, {"latents": [0, 4]}, {"n": 3}])
def test_codes_that_point_outside_do_not_pass_the_check(change):
    codes = SparseCodes(torch.tensor([0, 1, 2]), torch.tensor([0, 3]), torch.ones(2), 4)
    codes.check(2)
    n_rows = change.pop("n", 2)
    with pytest.raises(ValueError, match="codes"):
        replace(codes, **{name: torch.tensor(values) for name, values in change.items()}).check(n_rows)


@pytest.mark.parametrize("step", [1, 100, 1024, 1 << 20])
def test_ranges_are_those_of_long_runs_however_few_row_ids_are_held(tmp_path, monkeypatch, step):
    monkeypatch.setattr("interp.codes.code_store._STEP", step)
    n, generator = 2500, torch.Generator().manual_seed(0)
    runs = torch.randperm(n, generator=generator)[: n - 5].split([1125, n - 1130])
    latents = torch.randint(0, WIDTH, (n, 1), generator=generator)
    store = CodeStore.create(tmp_path, n_rows=n, d_sae=WIDTH)
    for i, rows in enumerate(runs):
        store.write_file(str(i), rows, SparseCodes.from_topk(latents[rows], rows[:, None].float() + 1, WIDTH))
    present = torch.zeros(n, dtype=torch.bool)
    present[torch.cat(runs)] = True
    for a, b in ((0, n), (1, 2), (1023, 2049), (n - 7, n), (1700, 1700)):
        found = CodeStore(tmp_path)[a:b]
        assert torch.equal(found.offsets.diff() > 0, present[a:b])
        assert torch.equal(found.values, torch.arange(a, b)[present[a:b]].float() + 1)
        assert torch.equal(found.latents, latents[a:b][present[a:b]].flatten().int())
        assert torch.equal(store.present(a, b), present[a:b])


@pytest.mark.parametrize("ahead", [1, 25, 40, 1 << 22])
def test_slices_in_order_are_those_of_the_whole_however_many_are_read_ahead(finished, firings, monkeypatch, ahead):
    monkeypatch.setattr("interp.codes.code_store.READ_AHEAD", ahead)
    reads = []
    read = CodeStore._read
    monkeypatch.setattr(CodeStore, "_read", lambda store, *rows: reads.append(rows) or read(store, *rows))
    store = CodeStore(finished.path)
    starts = range(0, ROWS, 3)
    assert torch.equal(torch.cat([store[start : start + 3].dense() for start in starts]), firings)
    assert len(reads) == len(starts) if ahead == 1 else len(reads) < len(starts)
    for start, stop in ((4, 9), (9, 11), (10, 12), (0, 1), (2, 2)):
        assert torch.equal(store[start:stop].dense(), firings[start:stop])
