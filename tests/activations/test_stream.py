"""Training on rows that are never stored: the weights of a store of the same rows, in bounded memory."""

import copy
import itertools
import json

import numpy as np
import pytest
import torch

from interp import (
    ActivationStore,
    BatchTopKConfig,
    TopKConfig,
    scan_features,
    scan_saes,
    train_sae,
    train_saes,
    train_sweep,
)
from interp.activations import ActivationSource, row_statistics
from interp.activations.harvesting import harvest
from interp.activations.stream import ActivationStream
from interp.statistics.randomness import shuffled_range
from models.transformer import Transformer, TransformerConfig
from tests.stored_rows import rows_of

N_SEQ, N_CTX, D_VOCAB, BOS, SINK = 40, 12, 30, 0, 5
HOOK, MLP = "blocks.0.hook_resid_post", "blocks.0.mlp.hook_post"
CONFIG = TopKConfig(d_sae=32, k=4, tokens=1000, batch_size=64, lr=0.003, seed=3, device="cpu")
OPTIONS = {"exclude": [BOS], "batch_size": 8}
SMALL = {**OPTIONS, "buffer_bytes": 10 * N_CTX * 16 * 2}
"""Ten sequences of bfloat16 activations at `HOOK`."""


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    model = Transformer(TransformerConfig(n_layers=1, d_model=16, n_heads=2, d_mlp=24, d_vocab=D_VOCAB, n_ctx=N_CTX))
    with torch.no_grad():
        model.W_E[SINK] *= 300
    return model


@pytest.fixture(scope="module")
def tokens():
    tokens = torch.randint(6, D_VOCAB, (N_SEQ, N_CTX), generator=torch.Generator().manual_seed(0))
    tokens[:, 0] = BOS
    tokens[::3, 4] = SINK
    return tokens


def same(one, two):
    return all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True))


def test_where_all_rows_fit_the_weights_are_those_of_a_harvested_store(model, tokens, tmp_path):
    store = harvest(model, tokens, [HOOK, MLP], tmp_path / "store", **OPTIONS)
    runs = []
    handle = model.register_forward_pre_hook(lambda _, args: runs.append(len(args[0])))
    for hook, output_hook in ((HOOK, None), (HOOK, MLP), ([HOOK, MLP], None)):
        runs.clear()
        stored = train_sae(store, hook, CONFIG, output_hook=output_hook)
        assert not runs
        hooks = [*([hook] if isinstance(hook, str) else hook), *([output_hook] if output_hook else [])]
        stream = ActivationStream(model, tokens, hooks, **OPTIONS)
        streamed = train_sae(stream, hook, CONFIG, output_hook=output_hook)
        assert sum(runs) == 1 + 2 * N_SEQ  # a probe, the sample for the limits, and the rows, for three epochs
        assert same(streamed, stored) and streamed.metadata == stored.metadata
        assert stored.metadata.get("norm_limit") == (store.norm_limits[HOOK] if hook == HOOK else None)
    handle.remove()


def test_a_generator_of_token_batches_is_read_as_far_as_it_is_needed(model, tokens, tmp_path):
    read = []

    def endless():
        for batch in itertools.cycle(tokens.split(5)):
            read.append(len(batch))
            yield batch

    stream = ActivationStream(model, endless(), [HOOK], max_tokens=CONFIG.tokens, **OPTIONS)
    n_seq = sum(read)
    assert n_seq * N_CTX >= CONFIG.tokens > (n_seq - 5) * N_CTX
    text = tokens.repeat(4, 1)[:n_seq]
    assert torch.equal(stream.tokens, text.int())
    store = harvest(model, (batch for batch in tokens.split(7)), [HOOK], tmp_path / "store", **OPTIONS)
    assert torch.equal(store.tokens, tokens.int())
    for wrong, said in (
        ([], "gives no batch"),
        ([tokens, tokens[:, :4]], "batch 1 of the tokens, .* must be integers"),
    ):
        with pytest.raises(ValueError, match=said):
            ActivationStream(model, iter(wrong), [HOOK])


def test_a_stream_is_a_source_and_no_store(model, tokens):
    stream = ActivationStream(model, tokens, [HOOK, MLP], **SMALL)
    assert isinstance(stream, ActivationSource) and not isinstance(stream, ActivationStore)
    shown = f"ActivationStream({N_SEQ * (N_CTX - 1)} rows of {HOOK} (16), {MLP} (24), in {stream.n_chunks} chunks)"
    assert repr(stream) == shown and not hasattr(stream, "_repr_html_")
    with pytest.raises(ValueError, match=f"the stream has no activations of 'other'; it has {HOOK}, {MLP}"):
        stream.statistics("other")


class Twin(ActivationStore):
    """A store of the same rows, given in the order that the module says, and with the same statistics."""

    def __init__(self, store, stream):
        super().__init__(store.path, store.manifest, store.digest)
        self.stream = stream

    def statistics(self, hook):
        return self.stream.statistics(hook)

    def batches(self, hook, batch_size, seed=0, **_):
        rows = rows_of(self, hook[0])

        def give():
            for epoch in itertools.count():
                sequences = np.random.default_rng([seed, epoch]).permutation(N_SEQ)
                for number, chunk in enumerate(np.array_split(sequences, 4)):
                    inside = sorted(i for i in rows if i // N_CTX in set(chunk.tolist()))
                    order = np.random.default_rng([seed, epoch, number]).permutation(len(inside))
                    yield from (rows[inside[i]].float() for i in order)

        endless = give()
        return iter(lambda: torch.stack(list(itertools.islice(endless, batch_size))), None)


def test_with_a_small_buffer_the_weights_are_those_of_the_same_rows_in_the_same_order(model, tokens, tmp_path):
    stream = ActivationStream(model, tokens, [HOOK], **SMALL)
    store = harvest(model, tokens, [HOOK], tmp_path / "store", **OPTIONS)
    assert stream.n_chunks == 4 and stream.norm_limits == store.norm_limits != {}
    twin = train_sae(Twin(store, stream), HOOK, CONFIG)
    assert same(train_sae(stream, HOOK, CONFIG), twin)
    about, whole = stream.statistics(HOOK), store.statistics(HOOK)  # all tokens are fewer than are sampled
    assert about.mean_norm == pytest.approx(whole.mean_norm, rel=1e-6) and about.n_rows == len(store)


def test_each_epoch_has_each_row_once_and_no_more_than_a_buffer_is_held(model, tokens, tmp_path, monkeypatch):
    store = harvest(model, tokens, [HOOK], tmp_path / "store", **OPTIONS)
    rows = sorted(x.float().tolist() for x in rows_of(store, HOOK).values())
    stream = ActivationStream(model, tokens, [HOOK], **SMALL)
    chunk, held = stream.chunk, []
    monkeypatch.setattr(stream, "chunk", lambda s: held.append(len(s)) or chunk(s))
    batches = stream.batches(HOOK, len(store), seed=1, epochs=None)
    first, second = next(batches), next(batches)
    for epoch in (first, second):
        assert sorted(epoch.tolist()) == rows
    assert not torch.equal(first, second) and max(held) == 10
    whole = list(stream.batches([HOOK], 50, seed=1, epochs=2))
    assert [len(batch) for batch in whole] == [len(batch) for batch in store.batches([HOOK], 50, epochs=2)]
    parts = [stream.batches([HOOK], 50, seed=1, epochs=2, part=(i, 3)) for i in range(3)]
    for batch, *in_parts in zip(whole, *parts, strict=True):
        assert torch.equal(batch, torch.cat(in_parts))
    once = torch.cat(list(stream.batches(HOOK, 50, seed=1)))
    assert sorted(once.tolist()) == rows, "one pass, as of a store"


@pytest.mark.parametrize("sequences_held", [1, 10])
def test_the_geometric_median_is_made_of_the_whole_text(model, monkeypatch, sequences_held):
    monkeypatch.setattr(row_statistics, "_MEDIAN_ROWS", 30)
    begins_with_7 = torch.where(torch.arange(N_SEQ)[:, None] < 10, 7, 8).repeat(1, N_CTX)
    stream = ActivationStream(model, begins_with_7, ["hook_embed"], buffer_bytes=sequences_held * N_CTX * 16 * 2)
    statistics = stream.statistics("hook_embed")
    assert stream.n_chunks == N_SEQ // sequences_held and statistics.geometric_median_rows == 30
    torch.testing.assert_close(statistics.geometric_median, model.W_E[8].detach(), rtol=0.01, atol=0.01)


def test_activations_that_overflow_float16_are_refused_as_by_a_harvest(model, tokens):
    large = copy.deepcopy(model)
    with torch.no_grad():
        large.W_E.mul_(1e6)
    stream = ActivationStream(large, tokens, ["hook_embed"], max_norm=None, dtype="float16")
    with pytest.raises(ValueError, match="are not finite; float16 ends at 65504"):
        next(stream.batches("hook_embed", 8))


def test_the_rows_of_a_chunk_are_shuffled_once(model, tokens, monkeypatch):
    batches = ActivationStream(model, tokens, [HOOK], **SMALL).batches(HOOK, 16, seed=1, epochs=None)
    drawn = []
    monkeypatch.setattr(
        "interp.activations.stream.shuffled_range", lambda n, *key: drawn.append((n, *key)) or shuffled_range(n, *key)
    )
    for _ in range(40):
        next(batches)
    epoch, chunk = (batches.state_dict()[name] for name in ("epoch", "chunk"))
    assert epoch and len(drawn) == len(set(drawn)) + epoch * 3 + chunk, "only the sequences are drawn for each chunk"


@pytest.mark.parametrize("options", [OPTIONS, SMALL], ids=["all fit", "chunks"])
def test_training_on_a_stream_resumes_to_the_same_weights(model, tokens, tmp_path, monkeypatch, options):
    configs = [CONFIG, BatchTopKConfig(d_sae=24, k=3, tokens=1000, batch_size=64, seed=3, device="cpu")]
    stream = ActivationStream(model, tokens, [HOOK], **options)
    whole = train_sweep(stream, HOOK, configs)
    monkeypatch.setattr("interp.sae.training._CheckpointTimer.due", lambda clock: True)

    def stop(done, *_):
        if done == 11:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_sweep(stream, HOOK, configs, tmp_path, progress=stop)
    again = train_sweep(ActivationStream(model, tokens, [HOOK], **options), HOOK, configs, tmp_path)
    assert all(same(one, two) for one, two in zip(again, whole, strict=True))
    steps = [json.loads(line)["step"] for line in (tmp_path / "0" / "metrics.jsonl").read_text().splitlines()]
    assert steps == list(range(1, 16))
    if options is SMALL:
        with pytest.raises(ValueError, match="not the same store"):
            train_sae(ActivationStream(model, tokens, [HOOK], **OPTIONS), HOOK, CONFIG, tmp_path / "0")


TWO = {"mlp": [HOOK, MLP], "residual": [HOOK]}


def test_several_hooks_learn_from_one_pass_what_each_learns_alone(model, tokens, tmp_path):
    stream = ActivationStream(model, tokens, [HOOK, MLP], **SMALL)
    runs = []
    handle = model.register_forward_pre_hook(lambda _, args: runs.append(len(args[0])))
    hooks = {tmp_path / name: pair for name, pair in TWO.items()}
    transcoder, autoencoder = train_saes(stream, hooks, CONFIG)
    handle.remove()
    epochs = CONFIG.steps * CONFIG.batch_size / len(stream)
    assert sum(runs) - N_SEQ == pytest.approx(N_SEQ * epochs, abs=20), "the sample, and each chunk once for both"
    assert same(transcoder, train_sae(stream, HOOK, CONFIG, output_hook=MLP)) and transcoder.kind == "transcoder"
    assert same(autoencoder, train_sae(stream, HOOK, CONFIG)) and autoencoder.kind == "sae"
    store = harvest(model, tokens, [HOOK, MLP], tmp_path / "store", **OPTIONS)
    stored = train_saes(store, {tmp_path / "stored" / name: pair for name, pair in TWO.items()}, CONFIG)
    assert same(stored[0], train_sae(store, HOOK, CONFIG, output_hook=MLP))
    assert same(stored[1], train_sae(store, HOOK, CONFIG))
    with pytest.raises(ValueError, match="must give each folder the hook"):
        train_saes(stream, {tmp_path / "x": HOOK}, CONFIG)


def test_several_hooks_that_were_cut_off_go_on_to_the_same_bytes(model, tokens, tmp_path, monkeypatch):
    def stop(done, *_):
        if done == 9:
            raise KeyboardInterrupt

    def hooks(folder):
        return {tmp_path / folder / name: pair for name, pair in TWO.items()}

    monkeypatch.setattr("interp.sae.training._CheckpointTimer.due", lambda clock: True)
    stream = ActivationStream(model, tokens, [HOOK, MLP], **SMALL)
    with pytest.raises(KeyboardInterrupt):
        train_saes(stream, hooks("cut"), CONFIG, progress=stop)
    train_saes(stream, hooks("cut"), CONFIG)
    train_saes(stream, hooks("whole"), CONFIG)
    for cut, whole in zip(hooks("cut"), hooks("whole"), strict=True):
        assert (cut / "sae_weights.safetensors").read_bytes() == (whole / "sae_weights.safetensors").read_bytes()


def test_a_scan_of_a_stream_is_that_of_a_store(model, tokens, tmp_path, monkeypatch):
    stream = ActivationStream(model, tokens, [HOOK, MLP], **SMALL)
    store = harvest(model, tokens, [HOOK, MLP], tmp_path / "store", **OPTIONS)
    saes = [train_sae(stream, hook, CONFIG) for hook in (HOOK, MLP)]
    chunk, runs = ActivationStream.chunk, []
    monkeypatch.setattr(ActivationStream, "chunk", lambda self, s: runs.append(s.tolist()) or chunk(self, s))
    named = {tmp_path / hook: (sae, hook) for sae, hook in zip(saes, (HOOK, MLP), strict=True)}
    together = scan_saes(stream, named, model=model)
    shards = list(dict.fromkeys(map(tuple, runs)))
    assert runs == [list(shard) for shard in shards for _ in saes], "shard after shard, each for both in turn"
    for features, (sae, hook) in zip(together, named.values(), strict=True):
        stored = scan_features(sae, store, hook, tmp_path / f"stored {hook}", model=model)
        alone = scan_features(sae, stream, hook, tmp_path / f"alone {hook}", model=model)
        for other in (stored, alone):
            assert features.table().equals(other.table())
            assert {**features.meta, "inputs": {}} == {**other.meta, "inputs": {}}
        assert all(features.is_scan_of(rows) for rows in (stream, store))
    told: list[float] = []
    half = {tmp_path / HOOK: named[tmp_path / HOOK], tmp_path / "new": named[tmp_path / MLP]}
    scan_saes(stream, half, model=model, progress=lambda done, total, _: told.append(done / total))
    assert told[0] == 0.5 and told[-1] == 1, "a finished scan counts as done"


def test_what_cannot_be_streamed_is_refused(model, tokens):
    with pytest.raises(ValueError, match=r"a Transformer has no rows to train on: give ActivationStore.open\("):
        train_sae(model, HOOK, CONFIG)
    with pytest.raises(ValueError, match="buffer_bytes=0 must be at least 1"):
        ActivationStream(model, tokens, [HOOK], buffer_bytes=0)
    with pytest.raises(ValueError, match="has no hook 'blocks.9"):
        ActivationStream(model, tokens, ["blocks.9.hook_resid_post"])
    with pytest.raises(ValueError, match="nothing is left to train on"):
        train_sae(ActivationStream(model, tokens, [HOOK], max_norm=1e-6), HOOK, CONFIG)
    for epochs in (1, None):
        batches = ActivationStream(model, tokens, [HOOK], max_norm=1e-6, **SMALL).batches(HOOK, 8, epochs=epochs)
        with pytest.raises(ValueError, match="every row of the stream is above a norm limit"):
            next(batches)
    broken = copy.deepcopy(model)
    with torch.no_grad():
        broken.W_E[int(tokens[33, 3])] = float("nan")
    with pytest.raises(ValueError, match=f"hook '{HOOK}': activations in sequences .* are not finite"):
        train_sae(ActivationStream(broken, tokens, [HOOK], **SMALL), HOOK, CONFIG)
