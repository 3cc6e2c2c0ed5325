"""Encoding in pieces and from bfloat16 gives what the dense formula gives."""

import threading

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from interp.activations import ActivationStore
from interp.runtime.processes import Processes
from interp.runtime.threads import loop_in_threads, map_in_threads, torch_on_one_thread
from interp.sae import BatchTopKConfig, MatryoshkaConfig, Threshold, TopK, TopKConfig
from interp.sae.architectures import topk
from interp.sae.architectures.encoders import ActivationFunction, Weights
from interp.sae.architectures.topk import BatchPick
from interp.sae.encode_rows import Workspace, encode, piece_rows
from interp.sae.hook_scales import HookScales
from interp.sae.learner import Learner

PICKERS = [
    TopK(6),
    BatchPick(900, Processes()),
    Threshold(torch.full((300,), 2.5)),
    Threshold(torch.full((300,), -0.5)),
]


def problem(rows: int = 150, d: int = 20, width: int = 300) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    x, encoder, b_enc = (torch.randn(*shape, generator=generator) for shape in ((rows, d), (width, d), (width,)))
    return x, encoder / encoder.norm(dim=1, keepdim=True), b_enc / 5


@pytest.mark.parametrize("picker", PICKERS, ids=["topk", "batchtopk", "above", "above, below zero"])
@pytest.mark.parametrize("low_precision", [False, True])
def test_the_picks_are_those_of_the_dense_formula(picker, low_precision, monkeypatch):
    monkeypatch.setattr("interp.sae.encode_rows._MOST_ROWS", 64)
    monkeypatch.setattr("interp.sae.encode_rows._LATENTS_AT_ONCE", 70)
    x, encoder, b_enc = problem()
    exact = picker.pick(torch.addmm(b_enc, x, encoder.T)).dense()
    codes = encode(x, encoder, b_enc, picker, low_precision=low_precision)
    dense = codes.dense()
    assert ((dense != 0) != (exact != 0)).sum() <= 2
    both = (dense != 0) & (exact != 0)
    torch.testing.assert_close(dense[both], exact[both], rtol=1e-5, atol=1e-5)


def test_few_rows_still_have_a_margin_in_the_shortlist():
    """A share of few picks would be no margin."""
    x, encoder, b_enc = problem(rows=400)
    picker = BatchPick(4 * 2, Processes())
    for rows in x.split(2):
        low, full = (encode(rows, encoder, b_enc, picker, low_precision=low) for low in (True, False))
        assert torch.equal(low.offsets, full.offsets) and torch.equal(low.latents, full.latents)


@pytest.mark.parametrize("low_precision", [False, True])
def test_the_number_of_threads_does_not_change_the_codes(low_precision, monkeypatch):
    monkeypatch.setattr("interp.sae.encode_rows._MOST_ROWS", 64)
    monkeypatch.setattr("interp.sae.encode_rows._LATENTS_AT_ONCE", 70)
    x, encoder, b_enc = problem()
    monkeypatch.setattr("interp.runtime.threads._MIN_WORK", 1)
    before, results = torch.get_num_threads(), []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        results.append(encode(x, encoder, b_enc, TopK(6), low_precision=low_precision))
    torch.set_num_threads(before)
    for other in results[1:]:
        for name in ("offsets", "latents", "values"):
            assert torch.equal(getattr(other, name), getattr(results[0], name))


def test_a_workspace_serves_batches_of_any_size_and_no_rows():
    x, encoder, b_enc = problem()
    workspace = Workspace()
    for rows in (150, 30, 0, 150):
        for picker in PICKERS:
            codes = encode(x[:rows], encoder, b_enc, picker, low_precision=True, workspace=workspace)
            fresh = encode(x[:rows], encoder, b_enc, picker, low_precision=True)
            assert len(codes) == rows and torch.equal(codes.dense(), fresh.dense())


def test_pre_activations_at_a_time_are_bounded():
    assert piece_rows(10**6, 1 << 20) * (1 << 20) <= 1 << 26
    assert piece_rows(10, 100) == 10 and piece_rows(0, 100) == 1


def test_shared_work_is_done_once_and_in_order():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    done = torch.zeros(103)
    with torch_on_one_thread():
        assert torch.get_num_threads() == 1
        loop_in_threads(103, 1 << 30, lambda start, stop: done[start:stop].add_(1))
        nested = map_in_threads([1, 2, 3], lambda piece: map_in_threads([piece, 10 * piece], lambda each: each + 1))
        with torch_on_one_thread():
            spans = loop_in_threads(103, 1 << 30, lambda start, stop: stop - start)
            small = loop_in_threads(103, 1 << 10, lambda start, stop: (stop - start, threading.get_ident()))
        assert torch.get_num_threads() == 1 and len(spans) > 1 and small == [(103, threading.get_ident())]
    assert torch.get_num_threads() == 2
    torch.set_num_threads(before)
    assert torch.equal(done, torch.ones(103))
    assert nested == [[2, 11], [3, 21], [4, 31]]


class Sizes(TorchDispatchMode):
    """The most numbers in a tensor that torch makes."""

    largest = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        for tensor in made if isinstance(made, tuple | list) else [made]:
            if isinstance(tensor, torch.Tensor):
                self.largest = max(self.largest, tensor.numel())
        return made


@pytest.mark.parametrize("low_precision", [False, True])
@pytest.mark.parametrize("kind", [TopKConfig, BatchTopKConfig, MatryoshkaConfig])
def test_encode_rows_memory_has_neither_all_pre_activations_nor_a_row_per_pick(
    kind, low_precision, tmp_path, monkeypatch
):
    limits = ("encode_rows._FULL_AT_ONCE", "encode_rows._LOW_AT_ONCE", "kernels.numba_kernels._TILE_ENTRIES")
    for name in limits:
        monkeypatch.setattr(f"interp.sae.{name}", 1 << 14)
    monkeypatch.setattr("interp.sae.learner.has_fast_bfloat16", lambda x: low_precision)
    rows, d_sae, k = 512, 1024, 16
    config = kind(d_sae=d_sae, k=k, tokens=10 * rows, batch_size=rows, device="cpu")
    batch = problem(rows, 16)[0]
    learner = Learner(
        config,
        HookScales(inputs=(ActivationStore.from_batches(batch, tmp_path).statistics("activations"),)),
        batch.device,
    )
    learner.step(batch)
    with Sizes() as sizes, torch_on_one_thread():  # a mode is seen in its own thread
        learner.step(batch)
    assert rows * k <= sizes.largest <= 4 * d_sae * 16 < rows * k * 16 < rows * d_sae


def test_picks_of_low_precision_that_are_not_certain_are_made_again(monkeypatch):
    """A large part that all latents read alike hides the small ones from bfloat16, in the first half of the rows."""
    monkeypatch.setattr(topk, "has_fast_bfloat16", lambda x: True)
    x, encoder, b_enc = problem(rows=1200)
    encoder[:, 0], x[:600, 0], picker = 1, 300, TopK(6)
    remade = []
    full = ActivationFunction.codes
    monkeypatch.setattr(ActivationFunction, "codes", lambda *given: remade.append(len(given[1])) or full(*given))
    codes = picker.codes(x, Weights(encoder, b_enc, encoder)).dense()
    exact = picker.dense(x.double() @ encoder.T.double() + b_enc.double())
    assert 0 < sum(remade) < len(x)
    assert torch.equal(codes > 0, exact > 0)
    torch.testing.assert_close(codes.double(), exact, rtol=1e-4, atol=1e-4)
    low = encode(x, encoder, b_enc, picker, low_precision=True).dense()
    assert not torch.equal(low > 0, exact > 0), "the rows are too easy"
