"""The Triton kernels against the torch ones in float64: interpreted on a CPU, and compiled where there is a GPU.

Triton reads TRITON_INTERPRET when it is first imported, which other modules may have done long ago, so a process of
its own runs the checks. Another one compiles all kernels for two GPUs that need not be there: the interpreter takes
code that the compiler refuses.
"""

import inspect
import json
import os
import re
import traceback
from importlib.util import find_spec

import pytest
import torch

from interp.codes.sparse_codes import SparseCodes
from interp.sae.kernels import dispatch
from interp.sae.kernels.dispatch import failing_operations, try_kernels
from interp.sae.kernels.torch_kernels import AdamStep, LatentSum, Tiled, TorchKernels
from tests.forked import run_python

torch_kernels = TorchKernels()

pytestmark = pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed")

WIDE, NARROW = {"width": 4096, "d": 2304, "k": 64}, {"width": 37, "d": 13, "k": 1}
GPUS = {"sm_80": WIDE, "sm_90": NARROW}
"""Kernels compiled for the first have the least shared memory to fit into, so it takes the wide sizes."""


def random(*shape: int, device: str = "cpu", seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(device)


def problem(device: str, rows: int = 9, width: int = 37, d: int = 13):
    """Return rows of 0 to about 18 entries: fewer and more than a kernel takes at a time."""
    z = random(rows, width).relu() * (random(rows, width, seed=1) > torch.linspace(-3, 3, rows)[:, None])
    z[-1] = 0
    codes = SparseCodes.from_dense(z.to(device))
    return (
        codes,
        random(width, d, device=device, seed=2),
        random(d, device=device, seed=3),
        random(rows, d, device=device, seed=4),
    )


def in_float64(codes: SparseCodes) -> SparseCodes:
    return SparseCodes(codes.offsets, codes.latents, codes.values.double(), codes.d_sae)


def same(actual: torch.Tensor, expected: torch.Tensor, tolerance: float = 1e-5) -> None:
    assert actual.dtype == torch.float32
    torch.testing.assert_close(actual.double(), expected.double(), rtol=tolerance, atol=tolerance)


def dense_top_k(pre: torch.Tensor, k: int) -> torch.Tensor:
    """Of equal pre-activations the one of the lowest latent."""
    values, latents = pre.sort(dim=1, descending=True, stable=True)
    return torch.zeros_like(pre).scatter(1, latents[:, :k], values[:, :k].relu())


def check_decode(ops, device):
    for d in (1, 600):  # the self-check has one between
        codes, W_dec, b_dec, x = problem(device, d=d)
        expected = torch_kernels.decode(in_float64(codes), W_dec.double(), b_dec.double())
        same(ops.decode(codes, W_dec, b_dec), expected)
        error, gradient, *_ = ops.decode_backward(codes, W_dec, b_dec, x)
        same(error, expected - x.double())
        dots = ((expected - x.double()) @ W_dec.double().T)[codes.rows, codes.latents.long()]
        same(gradient, dots, tolerance=1e-4)


def check_rescore(ops, device):
    for d in (13, 600):
        codes, encoder, _, x = problem(device, d=d)
        b_enc = random(37, device=device, seed=5)
        rescored = ops.rescore(codes, x, encoder, b_enc)
        pre = x.double() @ encoder.double().T + b_enc.double()
        same(rescored.values, pre[codes.rows, codes.latents.long()], tolerance=1e-4)
        assert rescored.values.min() < 0 and torch.equal(rescored.latents, codes.latents)


def check_nested_backward(ops, device):
    for d, ends in ((600, [5, 6, 37]), (1, [37])):
        codes, W_dec, b_dec, x = problem(device, d=d)
        mine = ops.decode_backward(codes, W_dec, b_dec, x, ends)
        doubled = [tensor.double() for tensor in (W_dec, b_dec, x)]
        expected = torch_kernels.decode_backward(in_float64(codes), *doubled, ends)
        for tensor, twin in zip(mine, expected, strict=True):
            same(tensor, twin, tolerance=1e-4)


def check_transpose(ops, device):
    codes = problem(device, rows=40)[0]
    for mine, expected in zip(ops.transpose(codes), torch_kernels.transpose(codes), strict=True):
        assert torch.equal(mine, expected)


def check_sums_by_latent_of_even_and_uneven_latents(ops, device):
    for d in (1, 300):
        z = random(520, 5) * (random(520, 5, seed=1) > 1.8)
        z[:, 1] = random(520, seed=2)
        z[:, 2:] = 0
        z[100:356, 3], z[100:357, 4] = 0.5, 1.5
        codes, x = SparseCodes.from_dense(z.to(device)), random(520, d, device=device, seed=3)
        expected = z.to(device).double().T @ x.double()
        out = torch.full((5, d), 7.0, device=device)
        assert ops.sum_by_latent(ops.transpose(codes), codes.values, x, out) is out
        same(out, expected, tolerance=1e-4)
        assert not out[2].any()
    assert torch.equal(ops.sum_by_latent(ops.transpose(codes), codes.values, x), out)


def check_top_k_keeps_the_k_largest_positive(ops, device):
    for width, k in ((37, 1), (37, 37), (1500, 400), (5000, 3)):
        pre = random(3, width, device=device) - torch.tensor([0, 1.5, 9], device=device)[:, None]
        codes = ops.top_k(pre, k)
        assert torch.equal(codes.dense(), dense_top_k(pre, k))
        assert torch.equal(codes.offsets.diff(), (codes.dense() > 0).sum(1))


def check_top_k_where_one_group_holds_the_largest(ops, device):
    """Groups of latents hide all but their maxima, so a bound from maxima lets hundreds through here."""
    pre = random(3, 8000, device=device)
    pre[:, 7::500] += 9
    pre[1, 8::500] += 9
    pre[2] = 2 + pre[2].abs()
    pre[2, :3000] = 40
    assert torch.equal(ops.top_k(pre, 20).dense(), dense_top_k(pre, 20))


def check_ties_go_to_the_lowest_latent(ops, device):
    pre = (random(3, 300, device=device) * 2).round()
    assert torch.equal(ops.top_k(pre, 7).dense(), dense_top_k(pre, 7))
    batch = ops.batch_top_k(pre, 60)
    assert torch.equal(batch.dense(), dense_top_k(pre.reshape(1, -1), 60).reshape(3, 300)) and batch.nnz == 60


def check_huge_infinite_and_missing_values(ops, device):
    pre = random(3, 64, device=device)
    pre[0, 3], pre[1, 4], pre[1, 7], pre[2, 5] = float("inf"), 3e38, -float("inf"), 1e-40
    assert torch.equal(ops.top_k(pre, 4).dense(), dense_top_k(pre, 4))
    assert torch.equal(ops.batch_top_k(pre, 20).dense(), torch_kernels.batch_top_k(pre, 20).dense())
    pre[2, 5] = float("nan")
    assert torch.equal(ops.top_k(pre, 4).dense(), dense_top_k(pre.nan_to_num(-1, posinf=float("inf")), 4))


def check_batch_top_k_keeps_the_n_largest_of_all_rows(ops, device):
    for width, n in ((37, 30), (300, 3), (20, 1000), (5000, 60)):
        pre = random(4, width, device=device)
        pre[2] += 4
        codes = ops.batch_top_k(pre, n)
        assert torch.equal(codes.dense(), torch_kernels.batch_top_k(pre, n).dense())
        assert torch.equal(codes.offsets.diff(), (codes.dense() > 0).sum(1))


def check_batch_top_k_of_tiles_is_that_of_all_rows(ops, device):
    for pre, counts in (
        (random(6, 300, device=device), (0, 5, 5000)),
        ((random(6, 300, device=device) * 2).round(), (200,)),
    ):
        pieces = [slice(0, 2), slice(2, 3), slice(3, 6)]
        tiled = Tiled(pre.shape, pre.dtype, pieces, lambda piece, pre=pre: [(0, pre[piece])], device)
        for n in counts:
            codes, expected = ops.batch_top_k(tiled, n), ops.batch_top_k(pre, n)
            assert torch.equal(codes.offsets, expected.offsets) and torch.equal(codes.latents, expected.latents)
            assert torch.equal(codes.values, expected.values)


def check_picks_from_bfloat16(ops, device):
    pre, threshold = random(4, 700, device=device).bfloat16(), random(700, device=device, seed=1)
    assert torch.equal(ops.top_k(pre, 30).dense(), dense_top_k(pre.float(), 30))
    expected = dense_top_k(pre.float().reshape(1, -1), 150).reshape(4, 700)
    assert torch.equal(ops.batch_top_k(pre, 150).dense(), expected)
    for limits in (threshold, threshold.bfloat16()):
        assert torch.equal(ops.above(pre, limits).dense(), torch_kernels.above(pre, limits).dense())


def check_the_largest_entries_of_a_shortlist(ops, device):
    codes = ops.above((random(4, 300, device=device) * 9).round(), torch.full((300,), -4.0, device=device))
    codes.values[codes.offsets[2] : codes.offsets[3]] = -1
    for k in (30, 500):
        for name in ("keep_top_k", "keep_batch_top_k"):
            mine, expected = getattr(ops, name)(codes, k), getattr(torch_kernels, name)(codes, k)
            assert torch.equal(mine.offsets, expected.offsets)
            assert torch.equal(mine.latents, expected.latents) and torch.equal(mine.values, expected.values)
    assert ops.keep_batch_top_k(codes, 0).nnz == 0


def check_above_is_the_dense_threshold(ops, device):
    for width in (150, 5000):
        pre, threshold = random(4, width, device=device), random(width, device=device, seed=1)
        pre[:, 7] = threshold[7]
        codes, expected = ops.above(pre, threshold), torch_kernels.above(pre, threshold)
        assert torch.equal(codes.dense(), expected.dense()) and torch.equal(codes.latents, expected.latents)


def check_adam(ops, device):
    for rows, d in ((3, 1), (2, 1500), (1, 3000)):
        for unit_norm in (False, True):
            weight = random(rows, d, device=device)
            weight /= weight.norm(dim=1, keepdim=True) if unit_norm else 1
            tensors = (weight, torch.zeros_like(weight), torch.zeros_like(weight))
            twins = [tensor.double() for tensor in tensors]
            for step in (1, 2, 3):
                gradient = random(rows, d, device=device, seed=step)
                ops.adam_(tensors[0], gradient, *tensors[1:], AdamStep(0.01, step, unit_norm=unit_norm))
                torch_kernels.adam_(twins[0], gradient.double(), *twins[1:], AdamStep(0.01, step, unit_norm=unit_norm))
            if unit_norm and d == 1:
                twins[1:] = tensors[1:]  # what is left of a gradient that is all parallel is rounding
            for tensor, twin in zip(tensors, twins, strict=True):
                same(tensor, twin)


def check_adam_on_summed_gradients(ops, device):
    codes, W, _, x = problem(device)
    W /= W.norm(dim=1, keepdim=True)
    results = []
    for module, as_type, mine in ((ops, torch.float32, codes), (torch_kernels, torch.float64, in_float64(codes))):
        weight, mean, square = (
            W.to(as_type, copy=True),
            torch.zeros_like(W, dtype=as_type),
            torch.zeros_like(W, dtype=as_type),
        )
        summed = LatentSum(module.transpose(mine), mine.values, x.to(as_type))
        module.adam_(weight, summed, mean, square, AdamStep(0.01, 1, unit_norm=True))
        results.append((weight, mean, square))
    for tensor, twin in zip(*results, strict=True):
        same(tensor, twin, tolerance=1e-4)


def check_the_self_check_finds_no_fault(ops, device):
    assert failing_operations(ops, torch.device(device)) == []


def check_no_rows_and_no_entries(ops, device):
    _, W_dec, b_dec, x = problem(device)
    empty = ops.top_k(torch.empty(0, 37, device=device), 3)
    assert len(empty) == 0 and ops.decode(empty, W_dec, b_dec).shape == (0, 13)
    assert ops.decode_backward(empty, W_dec, b_dec, x[:0]).error.shape == (0, 13)
    assert len(ops.batch_top_k(torch.empty(0, 37, device=device), 3)) == 0
    silent = ops.above(torch.full((9, 37), -1.0, device=device), torch.zeros(37, device=device))
    assert silent.nnz == 0 and torch.equal(ops.decode(silent, W_dec, b_dec), b_dec.expand(9, 13))
    assert ops.rescore(silent, x, W_dec, W_dec[:, 0]).nnz == 0
    assert not ops.sum_by_latent(ops.transpose(silent), silent.values, x).any()
    nothing = torch.full((2, 37), -1.0, device=device)
    assert ops.top_k(nothing, 3).nnz == ops.batch_top_k(nothing, 9).nnz == 0


CHECKS = {name: check for name, check in globals().items() if name.startswith("check_")}


class Same(TorchKernels):
    pass


class Differs(TorchKernels):
    def _dots(self, *given):
        return super()._dots(*given) * 1.01


class Fails(TorchKernels):
    def top_k(self, pre, k):
        raise RuntimeError("no such instruction\non this device")


class Missing(TorchKernels):
    def __init__(self):
        raise ImportError("no module of that name")


@pytest.mark.parametrize(
    ("backend", "message"),
    [
        (Differs, r"rescore \(differs\); decode_backward \(differs\); decode_backward of prefixes \(differs\)$"),
        (Fails, r"fail: top_k \(RuntimeError: no such instruction\); top_k of bfloat16"),
        (Missing, "fail: ImportError: no module of that name"),
    ],
)
def test_kernels_that_fail_or_differ_are_left_with_one_warning(backend, message, caplog):
    assert type(try_kernels(backend, torch.device("cpu"))) is TorchKernels
    (record,) = caplog.records
    assert re.search(message, record.getMessage())


def test_a_process_checks_its_gpu_once_and_uses_what_gives_the_same(monkeypatch, caplog):
    asked = []
    monkeypatch.setattr(
        "interp.sae.kernels.dispatch.try_kernels", lambda backend, device: asked.append(device.type) or Differs()
    )
    dispatch._choose_kernels.cache_clear()
    assert type(dispatch._choose_kernels("cuda", torch.float32)) is Differs
    assert dispatch._choose_kernels("cuda", torch.float32) is dispatch._choose_kernels("cuda", torch.float32)
    assert type(dispatch._choose_kernels("cuda", torch.float64)) is TorchKernels and asked == ["cuda"]
    dispatch._choose_kernels.cache_clear()
    assert type(try_kernels(Same, torch.device("cpu"))) is Same and not caplog.records


@pytest.fixture(scope="module")
def interpreted() -> dict[str, str]:
    return child("run_checks", TRITON_INTERPRET="1")


@pytest.mark.parametrize("name", CHECKS)
def test_interpreted(name, interpreted):
    assert not interpreted[name], interpreted[name]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_compiled_on_a_gpu():
    from interp.sae.kernels.triton_kernels import TritonKernels

    for check in CHECKS.values():
        check(TritonKernels(), "cuda")


@pytest.fixture(scope="module")
def compiled(tmp_path_factory) -> dict[str, list[str]]:
    return child("compile_all", TRITON_INTERPRET="0", TRITON_CACHE_DIR=str(tmp_path_factory.mktemp("triton")))


@pytest.mark.parametrize("gpu", GPUS)
def test_every_kernel_compiles_without_atomics_and_tf32(gpu, compiled):
    assert compiled[f"{gpu} compiled"] == compiled["all"]
    assert compiled[f"{gpu} with atomics or TF32"] == []


def child(job: str, **environment: str) -> dict:
    """Return what a job of this module returns in a process of its own."""
    code = f"import json; from {__name__} import {job}; print(json.dumps({job}()))"
    done = run_python(code, environment=os.environ | environment, check=True, anew=("interp", "tests", "triton"))
    return json.loads(done.stdout.splitlines()[-1])


def run_checks() -> dict[str, str]:
    """Return the traceback of each check that fails."""
    from interp.sae.kernels.triton_kernels import TritonKernels

    failures = dict.fromkeys(CHECKS, "")
    for name, check in CHECKS.items():
        try:
            check(TritonKernels(), "cpu")
        except Exception:
            failures[name] = traceback.format_exc()
    return failures


class AbsentGPU:
    """What Triton asks a driver before it compiles."""

    def __init__(self, name: str):
        self.capability = int(name.removeprefix("sm_"))

    def get_current_device(self) -> int:
        return self.capability

    def get_current_stream(self, device: int) -> int:
        return 0

    def get_current_target(self):
        from triton.backends.compiler import GPUTarget

        return GPUTarget("cuda", self.capability, 32)


def compile_all() -> dict[str, list[str]]:
    """Call each operation with launches that only compile, at sizes that the compiler treats in different ways."""
    import triton

    from interp.sae.kernels import triton_kernels

    functions = inspect.getmembers(triton_kernels)
    report = {"all": sorted(name for name, found in functions if hasattr(found, "warmup") and name[0] != "_")}
    code: dict[str, str] = {}

    def launch(kernel, grid, *arguments, **sizes):
        binary = kernel.warmup(*arguments, grid=grid, enable_fp_fusion=True, **sizes)
        code[kernel.__name__] = code.get(kernel.__name__, "") + binary.asm["ptx"]

    # What a kernel should have written is read on the way, so it must be zero.
    torch.empty, torch.Tensor.new_empty, triton_kernels._launch = torch.zeros, torch.Tensor.new_zeros, launch
    for gpu, sizes in GPUS.items():
        triton.runtime.driver.set_active(AbsentGPU(gpu))
        code.clear()
        call_all(triton_kernels.TritonKernels(), **sizes)
        report[f"{gpu} compiled"] = sorted(code)
        report[f"{gpu} with atomics or TF32"] = [n for n, ptx in code.items() if re.search(r"\b(atom|red)\.|tf32", ptx)]
    return report


def call_all(ops, width: int, d: int, k: int) -> None:
    latents = torch.arange(4 * 37, dtype=torch.int32).reshape(4, 37) % 37
    codes = SparseCodes.from_topk(latents, torch.ones(4, 37), width)
    W, b, x, many = torch.zeros(width, d), torch.zeros(d), torch.zeros(4, d), torch.zeros(4, width)
    ops.top_k(many, k), ops.top_k(many.bfloat16(), k), ops.above(many, many[0])
    ops.decode(codes, W, b), ops.decode_backward(codes, W, b, x), ops.rescore(codes, x, W, W[:, 0])
    ops.decode_backward(codes, W, b, x, (9, width))
    dense = SparseCodes.from_topk(torch.zeros(600, 1, dtype=torch.int32), torch.ones(600, 1), width)
    for columns in (d, 1):
        ops.sum_by_latent(ops.transpose(dense), dense.values, torch.zeros(600, columns))
    for unit_norm in (False, True):
        ops.adam_(W, W, W, W, AdamStep(0.1, 1, unit_norm=unit_norm))
