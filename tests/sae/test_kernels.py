"""The numba kernels against the torch ones, and both against dense float64 formulas."""

import tracemalloc

import pytest
import torch

from interp.codes.sparse_codes import SparseCodes
from interp.sae.kernels import dispatch
from interp.sae.kernels.numba_kernels import NumbaKernels
from interp.sae.kernels.torch_kernels import AdamStep, LatentSum, Tiled, TorchKernels

torch_kernels, numba_kernels = TorchKernels(), NumbaKernels()
BACKENDS = [torch_kernels, numba_kernels]
each_backend = pytest.mark.parametrize("ops", BACKENDS, ids=["torch", "numba"])


@pytest.fixture(autouse=True)
def two_threads(monkeypatch):
    """Divide rows among threads, as in training, however few there are."""
    monkeypatch.setattr("interp.runtime.threads._MIN_WORK", 1)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def random(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def problem(rows: int = 60, d: int = 13, width: int = 37):
    codes = SparseCodes.from_dense(random(rows, width).relu() * (random(rows, width, seed=1) > 0.8))
    return codes, random(width, d, seed=2), random(d, seed=3), random(rows, d, seed=4)


def dense_top_k(pre: torch.Tensor, k: int) -> torch.Tensor:
    kept = pre >= pre.sort(dim=1, descending=True).values[:, k - 1 : k]
    return (pre * kept).relu()


@each_backend
@pytest.mark.parametrize(("width", "k"), [(37, 1), (37, 5), (37, 37), (300, 8), (1000, 40), (16, 16)])
def test_top_k_keeps_the_k_largest_positive(ops, width, k):
    pre = random(50, width)
    assert torch.equal(ops.top_k(pre, k).dense(), dense_top_k(pre, k))


@each_backend
def test_top_k_leaves_out_what_is_not_positive(ops):
    pre = random(50, 100) - 1.5
    pre[3] = -1
    codes = ops.top_k(pre, 20)
    assert torch.equal(codes.dense(), dense_top_k(pre, 20))
    assert codes.nnz == (codes.dense() > 0).sum() < 50 * 20


@each_backend
def test_ties_never_give_more_than_k(ops):
    pre = (random(50, 100) * 2).round()
    codes = ops.top_k(pre, 7)
    expected = pre.topk(7).values.relu()
    assert torch.equal(codes.dense().topk(7).values, expected)
    assert codes.offsets.diff().max() <= 7
    batch = ops.batch_top_k(pre, 350)
    assert batch.nnz == 350
    assert torch.equal(batch.values.sort().values, pre.flatten().topk(350).values.sort().values)


@each_backend
@pytest.mark.parametrize(("width", "n"), [(37, 60), (300, 400), (300, 3), (20, 1000), (300, 14_000)])
def test_batch_top_k_keeps_the_n_largest_of_all_rows(ops, width, n):
    pre = random(50, width)
    pre[7] += 4
    least = pre.flatten().sort(descending=True).values[n - 1]
    codes = ops.batch_top_k(pre, n)
    assert torch.equal(codes.dense(), (pre * (pre >= least)).relu())
    assert codes.nnz == (codes.dense() != 0).sum()


def rising(piece: slice, width: int, step: float, dtype: torch.dtype):
    """Tiles whose activations rise with the latent's index, by `step` from tile to tile."""
    for first in range(0, width, 64):
        pre = random(piece.stop, 64, seed=first)[piece] * 0.01 + 1 + step * first
        yield first, pre.to(dtype)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize(("step", "n"), [(1.0, 700), (1.0, 100), (0.0, 700), (1e-4, 700)])
def test_batch_top_k_keeps_few_candidates_for_rising_activations(step, n, dtype):
    rows, width, pieces = 96, 4096, [slice(0, 40), slice(40, 96)]
    tiled = Tiled(torch.Size((rows, width)), dtype, pieces, lambda piece: rising(piece, width, step, dtype))
    dense = torch.cat([tile for _, tile in rising(slice(0, rows), width, step, dtype)], dim=1)
    expected = torch_kernels.keep_batch_top_k(SparseCodes.from_dense(dense), n)
    numba_kernels.batch_top_k(tiled, n)  # compiles
    tracemalloc.start()
    codes = numba_kernels.batch_top_k(tiled, n)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert torch.equal(codes.offsets, expected.offsets) and torch.equal(codes.latents, expected.latents)
    assert torch.equal(codes.values, expected.values.float())
    assert peak < 900_000  # bytes, a third of them for counting; all candidates of a rise take 1.5 million and more


@each_backend
@pytest.mark.parametrize("n", [0, 1, 300, 2000, 10**6])
def test_batch_top_k_of_tiles_is_that_of_all_rows(ops, n):
    """Of equal ones the first stay, wherever the tiles end."""
    for pre in (random(70, 50), (random(70, 50) * 2).round(), (random(70, 50) * 2).bfloat16(), -random(70, 50).abs()):
        pieces = [slice(0, 16), slice(16, 17), slice(17, 17), slice(17, 70)]
        tiled = Tiled(pre.shape, pre.dtype, pieces, lambda piece, pre=pre: [(0, pre[piece])])
        expected = torch_kernels.keep_batch_top_k(SparseCodes.from_dense(pre.relu()), n)
        codes = ops.batch_top_k(tiled, n)
        assert torch.equal(codes.offsets, expected.offsets) and torch.equal(codes.latents, expected.latents)
        assert torch.equal(codes.values, expected.values.float())


@each_backend
def test_picks_of_huge_infinite_and_missing_values_end(ops):
    pre = random(40, 64)
    pre[0, 3], pre[1, 4] = float("inf"), 3e38
    codes = ops.top_k(pre, 4)
    assert torch.equal(codes.dense(), torch_kernels.top_k(pre, 4).dense())
    assert torch.equal(ops.batch_top_k(pre, 90).dense(), torch_kernels.batch_top_k(pre, 90).dense())
    pre[2, 5] = float("nan")
    assert len(ops.top_k(pre, 4)) == 40


@each_backend
def test_above_is_the_dense_threshold(ops):
    pre, threshold = random(50, 150), random(150, seed=1)
    pre[:, 7] = threshold[7]
    codes = ops.above(pre, threshold)
    assert torch.equal(codes.dense(), pre * (pre > threshold))


@each_backend
def test_rescored_entries_keep_their_sign(ops):
    codes, encoder, _, x = problem()
    assert (ops.rescore(codes, x, encoder, torch.full((37,), -100.0)).values < 0).all()


@each_backend
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_picks_of_other_dtypes(ops, dtype):
    pre = random(40, 300, dtype=torch.float64).to(dtype)
    exact = pre.double()
    for codes in (ops.top_k(pre, 9), ops.batch_top_k(pre, 300)):
        assert codes.values.dtype == (torch.float32 if dtype == torch.bfloat16 else dtype)
        assert torch.equal(codes.values.double(), exact[codes.rows, codes.latents.long()])
    least = exact.topk(9).values[:, -1:]
    top = ops.top_k(pre, 9)
    assert (top.offsets.diff() == 9).all() and (top.values.double() >= least[top.rows, 0]).all()
    batch = ops.batch_top_k(pre, 300)
    assert batch.nnz == 300 and batch.values.min() == exact.flatten().topk(300).values.min()


@each_backend
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_above_thresholds_of_either_sign(ops, dtype):
    pre, threshold = random(50, 150).to(dtype), random(150, seed=1)
    pre[:, 7], threshold[7] = 0.0, -0.0
    pre[:, 8], threshold[8] = -1.0, -1.003
    pre[:, 9] = threshold[9] = -1.0
    pre[:, 10] = threshold[10] = 1.5
    codes = ops.above(pre, threshold if dtype == torch.bfloat16 else threshold.to(dtype))
    assert torch.equal(codes.dense() != 0, (pre.double() > threshold.double()) & (pre != 0))


def some_codes(rows: int = 40, width: int = 60) -> SparseCodes:
    """Return values of both signs, with ties, in a free order, and rows of all lengths."""
    kept = random(rows, width) > torch.linspace(-2, 2, rows)[:, None]
    codes = SparseCodes.from_dense(((random(rows, width, seed=1) * 4).round() + 0.5) * kept)
    order = torch.cat([codes.offsets[i] + torch.randperm(n) for i, n in enumerate(codes.offsets.diff().tolist())])
    return SparseCodes(codes.offsets, codes.latents[order], codes.values[order], width)


@each_backend
def test_entries_that_are_kept(ops):
    codes = some_codes()
    dense = codes.dense()
    top = ops.keep_top_k(codes, 7)
    assert torch.equal(top.dense().topk(7).values, dense.topk(7).values.relu())
    batch = ops.keep_batch_top_k(codes, 100)
    assert batch.nnz == 100 and torch.equal(batch.values.sort().values, codes.values.sort().values[-100:])
    threshold = random(60, seed=2)
    assert torch.equal(ops.keep_above(codes, threshold).dense(), dense * (dense > threshold) * (dense != 0))
    for kept in (top, batch):
        assert torch.equal(kept.dense(), dense * (kept.dense() != 0))
    assert ops.keep_batch_top_k(codes, 0).nnz == 0
    assert ops.keep_batch_top_k(codes, codes.nnz + 5).nnz == (codes.values > 0).sum()
    assert ops.keep_top_k(codes, 60).nnz == (codes.values > 0).sum()


def test_entries_that_are_kept_are_the_same_in_both_backends():
    codes, threshold = some_codes(), random(60, seed=2)
    for name, argument in {"keep_top_k": 7, "keep_batch_top_k": 100, "keep_above": threshold}.items():
        kept, twin = (getattr(ops, name)(codes, argument) for ops in BACKENDS)
        assert torch.equal(kept.offsets, twin.offsets) and torch.equal(kept.latents, twin.latents)
        assert torch.equal(kept.values, twin.values)


@each_backend
def test_nested_dictionaries_equal_their_dense_products(ops):
    codes, W_dec, b_dec, x = problem()
    codes.values[::3] = 0
    order = torch.cat([codes.offsets[i] + torch.randperm(n) for i, n in enumerate(codes.offsets.diff().tolist())])
    codes = SparseCodes(codes.offsets, codes.latents[order], codes.values[order], codes.d_sae)
    ends, z = (5, 6, 20, 37), codes.dense().double().requires_grad_()
    errors = [z[:, :end] @ W_dec[:end].double() + b_dec - x for end in ends]
    squares = torch.stack([error.square().sum() for error in errors])
    (slope,) = torch.autograd.grad(squares.mean() / 2, z)
    nested = ops.decode_backward(codes, W_dec, b_dec, x, ends)
    close = {"rtol": 1e-5, "atol": 2e-5, "check_dtype": False}
    torch.testing.assert_close(nested.error, errors[-1].detach(), **close)
    torch.testing.assert_close(nested.gradient, slope[codes.rows, codes.latents.long()], **close)
    torch.testing.assert_close(nested.squared_errors, squares.detach(), **close)
    for h in range(len(ends)):
        torch.testing.assert_close(nested.residuals[h], sum(errors[h:]).detach() / len(ends), **close)


@each_backend
@pytest.mark.parametrize(("density", "dtype"), [(0.02, torch.float64), (0.5, torch.float64), (0.2, torch.float32)])
def test_sparse_and_dense_codes_give_the_dense_products(ops, density, dtype):
    z = random(50, 40, dtype=dtype) * (torch.rand(50, 40, generator=torch.Generator().manual_seed(3)) < density)
    codes, W_dec = SparseCodes.from_dense(z), random(40, 11, seed=1, dtype=dtype)
    x, b_dec, b_enc = (random(*shape, seed=2, dtype=dtype) for shape in ((50, 11), (11,), (40,)))
    decoded, error, gradient = ops.decode(codes, W_dec, b_dec), *ops.decode_backward(codes, W_dec, b_dec, x)[:2]
    rescored, by_latent = ops.rescore(codes, x, W_dec, b_enc).values, ops.transpose(codes)
    summed, sums = ops.sum_by_latent(by_latent, codes.values, x), ops.latent_sums(by_latent, codes.values)
    z, W_dec, x, b_dec, b_enc = (tensor.double() for tensor in (z, W_dec, x, b_dec, b_enc))
    at, expected = (codes.rows, codes.latents.long()), z @ W_dec + b_dec
    for found, dense in (
        (decoded, expected),
        (error, expected - x),
        (gradient, ((expected - x) @ W_dec.T)[at]),
        (rescored, (x @ W_dec.T + b_enc)[at]),
        (summed, z.T @ x),
        (sums, z.sum(0)),
    ):
        close = 1e-5 if dtype == torch.float32 else 1e-7
        torch.testing.assert_close(found.double(), dense, rtol=close, atol=close)


@each_backend
@pytest.mark.parametrize("unit_norm", [False, True])
@pytest.mark.parametrize("density", [0.02, 0.5])
def test_the_update_of_summed_gradients_equals_sum_then_adam(ops, unit_norm, density):
    z = random(50, 40, dtype=torch.float64) * (torch.rand(50, 40, generator=torch.Generator().manual_seed(3)) < density)
    codes, x = SparseCodes.from_dense(z), random(50, 11, seed=1, dtype=torch.float64)
    weight = random(40, 11, seed=2, dtype=torch.float64)
    weight /= weight.norm(dim=1, keepdim=True)
    mean, square = torch.zeros_like(weight), torch.zeros_like(weight)
    expected = weight.clone(), mean.clone(), square.clone()
    torch_kernels.adam_(expected[0], z.T @ x, *expected[1:], AdamStep(0.01, 3, unit_norm=unit_norm))
    by_latent = ops.transpose(codes)
    summed = LatentSum(by_latent, codes.values, x)
    ops.adam_(weight, summed, mean, square, AdamStep(0.01, 3, unit_norm=unit_norm))
    for mine, twin in zip((weight, mean, square), expected, strict=True):
        torch.testing.assert_close(mine, twin)


@each_backend
def test_the_error_of_rows_that_lie_column_by_column_in_memory_is_the_same(ops):
    codes, W_dec, b_dec, x = problem()
    columns = x.T.contiguous().T
    for result, expected in zip(
        ops.decode_backward(codes, W_dec, b_dec, columns), ops.decode_backward(codes, W_dec, b_dec, x), strict=True
    ):
        torch.testing.assert_close(result, expected)


@each_backend
def test_sums_by_latent_equal_the_transposed_product(ops):
    codes, _, _, x = problem()
    by_latent = ops.transpose(codes)
    assert torch.equal(by_latent.offsets.diff(), (codes.dense() != 0).sum(0))
    for a, b in zip(by_latent.offsets[:-1].tolist(), by_latent.offsets[1:].tolist(), strict=True):
        assert by_latent.rows[a:b].tolist() == sorted(by_latent.rows[a:b].tolist())
    out = torch.full((37, 13), 7.0)
    assert ops.sum_by_latent(by_latent, codes.values, x, out) is out
    torch.testing.assert_close(out.double(), codes.dense().double().T @ x.double(), rtol=1e-5, atol=1e-5)


@each_backend
def test_adam_equals_torchs(ops):
    weight = random(20, 9, dtype=torch.float64)
    mean, square, twin = torch.zeros_like(weight), torch.zeros_like(weight), torch.nn.Parameter(weight.clone())
    optimizer = torch.optim.Adam([twin], lr=0.01, eps=1e-8)
    for step in range(1, 6):
        twin.grad = random(20, 9, seed=step, dtype=torch.float64)
        ops.adam_(weight, twin.grad.clone(), mean, square, AdamStep(0.01, step, eps=1e-8))
        optimizer.step()
    torch.testing.assert_close(weight, twin.detach(), rtol=1e-9, atol=1e-12)


@each_backend
def test_adam_keeps_unit_rows_and_ignores_the_parallel_gradient(ops):
    weight = random(20, 9, dtype=torch.float64)
    weight /= weight.norm(dim=1, keepdim=True)
    mean, square, start = torch.zeros_like(weight), torch.zeros_like(weight), weight.clone()
    gradient = random(20, 9, seed=1, dtype=torch.float64)
    ops.adam_(weight, gradient.clone(), mean, square, AdamStep(0.01, 1, unit_norm=True))
    torch.testing.assert_close(weight.norm(dim=1), torch.ones(20, dtype=torch.float64))
    across = gradient - (gradient * start).sum(1, keepdim=True) * start
    torch.testing.assert_close(mean, 0.1 * across)
    with_parallel, untouched = gradient + 3 * start, start.clone()
    mean.zero_(), square.zero_()
    ops.adam_(untouched, with_parallel, mean, square, AdamStep(0.01, 1, unit_norm=True))
    torch.testing.assert_close(untouched, weight)


def test_results_do_not_depend_on_the_number_of_threads():
    codes, W_dec, b_dec, x = problem(rows=200, d=64, width=128)
    results = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        error, gradient, *_ = numba_kernels.decode_backward(codes, W_dec, b_dec, x)
        summed = numba_kernels.sum_by_latent(numba_kernels.transpose(codes), codes.values, error)
        picked = numba_kernels.top_k(x @ W_dec.T, 9)
        few, batch = numba_kernels.keep_top_k(codes, 5), numba_kernels.batch_top_k(x @ W_dec.T, 900)
        nested = numba_kernels.decode_backward(codes, W_dec, b_dec, x, (9, 50, 128))
        results.append((error, gradient, summed, picked.latents, picked.values, few.latents, batch.latents, *nested))
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


@each_backend
def test_no_rows_and_no_entries(ops):
    _, W_dec, b_dec, _ = problem()
    empty = ops.top_k(torch.empty(0, 37), 3)
    assert len(empty) == 0 and ops.decode(empty, W_dec, b_dec).shape == (0, 13)
    silent = ops.top_k(torch.full((4, 37), -1.0), 3)
    assert silent.nnz == 0 and torch.equal(ops.decode(silent, W_dec, b_dec), b_dec.expand(4, 13))
    assert torch.equal(ops.sum_by_latent(ops.transpose(silent), silent.values, random(4, 13)), torch.zeros(37, 13))
    assert ops.batch_top_k(torch.full((4, 37), -1.0), 9).nnz == 0
    for codes in (empty, silent):
        assert ops.keep_top_k(codes, 3).nnz == ops.keep_batch_top_k(codes, 3).nnz == 0
        nested = ops.decode_backward(codes, W_dec, b_dec, random(len(codes), 13), (5, 37))
        assert nested.residuals.shape == (2, len(codes), 13) and nested.squared_errors.shape == (2,)


def test_each_operation_is_tried_before_a_backend_is_used():
    operations = {name for name, entry in vars(TorchKernels).items() if name[0] != "_" and callable(entry)}
    trials = dispatch._trials(TorchKernels(), torch.float32, torch.device("cpu"))
    assert "top_k" in operations and operations == {name.split()[0] for name in trials}
    assert dispatch.failing_operations(numba_kernels, torch.device("cpu")) == []


def test_a_backend_with_a_method_that_is_no_operation_is_refused_when_it_is_defined():
    with pytest.raises(TypeError, match="Misspelt defines top_kk, which is no operation"):
        type("Misspelt", (TorchKernels,), {"top_kk": TorchKernels.top_k})


def test_a_device_whose_backend_cannot_be_imported_has_the_reference(monkeypatch, caplog):
    """Without a warning if the package that it needs is not installed."""
    for backend, warnings in (("no_such_kernels:Kernels", 0), ("broken_kernels:Kernels", 1)):
        monkeypatch.setitem(dispatch.BACKENDS, "meta", backend)
        if warnings:
            monkeypatch.setattr(dispatch, "resolve_name", broken)
        dispatch._choose_kernels.cache_clear()
        assert type(dispatch._choose_kernels("meta", torch.float32)) is TorchKernels
        assert len(caplog.records) == warnings


def broken(name: str):
    raise ImportError("libtriton.so: undefined symbol")
