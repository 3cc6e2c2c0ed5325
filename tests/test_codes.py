import numpy as np
import pytest
import scipy.sparse
import torch

from interp.codes import CodeStore, SparseCodes

ROWS, WIDTH = 23, 11


@pytest.fixture
def dense() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(ROWS, WIDTH, generator=generator)
    z[torch.rand(ROWS, WIDTH, generator=generator) < 0.7] = 0
    z[4] = 0
    return z


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


def test_a_code_store_gives_rows_in_token_order_whatever_the_order_of_the_runs(dense, tmp_path):
    store = CodeStore.create(tmp_path, n_rows=ROWS, d_sae=WIDTH)
    order = torch.randperm(ROWS, generator=torch.Generator().manual_seed(1))
    left_out, *runs = order.split([3, 9, 1, 10])
    for i, rows in enumerate(runs):
        store.write_run(str(i), rows, SparseCodes.from_dense(dense[rows]))
    expected = dense.clone()
    expected[left_out] = 0
    present = torch.ones(ROWS, dtype=torch.bool)
    present[left_out] = False
    for opened in (store, CodeStore(tmp_path)):
        assert len(opened) == ROWS and opened.has_run("2") and not opened.has_run("3")
        assert opened.nnz == (expected != 0).sum()
        for a, b in ((0, ROWS), (3, 9), (7, 7), (ROWS - 2, ROWS)):
            assert torch.equal(opened[a:b].dense(), expected[a:b])
            assert torch.equal(opened.present(a, b), present[a:b])


def test_a_code_store_goes_on_behind_the_runs_that_are_there(dense, tmp_path):
    first = torch.arange(10)
    CodeStore.create(tmp_path, n_rows=ROWS, d_sae=WIDTH).write_run("a", first, SparseCodes.from_dense(dense[:10]))
    store = CodeStore.create(tmp_path, n_rows=ROWS, d_sae=WIDTH)
    store.write_run("b", torch.arange(10, ROWS), SparseCodes.from_dense(dense[10:]))
    assert torch.equal(store[:].dense(), dense)


def test_an_empty_code_store_is_all_zeros(tmp_path):
    store = CodeStore.create(tmp_path, n_rows=5, d_sae=WIDTH)
    assert torch.equal(store[1:4].dense(), torch.zeros(3, WIDTH))
    assert not store.present(0, 5).any()


@pytest.mark.parametrize("width", [1 << 16, (1 << 16) + 1])
def test_latent_ids_survive_storage_at_both_sides_of_sixteen_bits(tmp_path, width):
    codes = SparseCodes(torch.tensor([0, 2]), torch.tensor([0, width - 1]).int(), torch.tensor([1.0, 2.0]), width)
    store = CodeStore.create(tmp_path, n_rows=1, d_sae=width)
    store.write_run("a", torch.tensor([0]), codes)
    assert store[:].latents.tolist() == [0, width - 1]
