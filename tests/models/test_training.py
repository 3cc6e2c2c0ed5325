import dataclasses
import json
import math
import os
import signal
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from interp.checks.errors import DamagedError, OverwriteError
from interp.runtime.progress import no_progress
from interp.storage.folders import unfinished_folder
from models.evaluation import evaluate_loss
from models.ngrams import Bigrams, bigram_cross_entropy, unigram_cross_entropy, unigram_of
from models.training import train_model
from models.training_recipe import TrainingConfig, batch_rows
from models.transformer import Transformer, TransformerConfig
from tests.forked import run_python

D_VOCAB, N_CTX = 7, 8


class Letters:
    """Id 0 is BOS, the others are letters."""

    bos_id = 0

    def decode(self, ids):
        return "".join("^abcdef"[i] for i in ids)


def fibonacci_tokens(n_sequences: int, seed: int) -> torch.Tensor:
    """Return tokens, each a function of the two before it, so that it is nearly uniform given one."""
    tokens = torch.randint(0, D_VOCAB, (n_sequences, N_CTX), generator=torch.Generator().manual_seed(seed))
    for i in range(2, N_CTX):
        tokens[:, i] = (tokens[:, i - 1] + tokens[:, i - 2]) % D_VOCAB
    return tokens.int()


def small_model(**overrides) -> Transformer:
    sizes = dict(n_layers=1, d_model=16, n_heads=2, d_mlp=32, d_vocab=D_VOCAB, n_ctx=N_CTX)
    return Transformer(TransformerConfig(**{**sizes, **overrides}))


CONFIG = TrainingConfig(
    tokens=14 * 4 * N_CTX,
    batch_size=4,
    val_every=2,
    snapshot_steps=(0, 5, 11),
    warmup=0.2,
)


def train(out, config=CONFIG, *, model=None, progress=no_progress, **options):
    model = model or small_model()
    options = {"tokenizer": Letters(), "checkpoint_seconds": 0.0, "progress": progress, **options}
    return train_model(model, fibonacci_tokens(10, 0), fibonacci_tokens(6, 1), config, out, **options)


def train_until_killed(out: str, moment: str) -> None:
    """In a process of its own: SIGKILL strikes after a step, instead of a rename, or just after one."""
    torch.set_num_threads(1)
    kind, where = moment.split(":")

    def kill():
        os.kill(os.getpid(), signal.SIGKILL)

    def progress(done, total, note):
        if kind == "step" and done == int(where):
            kill()

    rename = os.replace

    def replace(source, target):
        hit = Path(target).name == where
        if kind == "instead" and hit and (where != "checkpoint.safetensors" or Path(target).exists()):
            kill()
        rename(source, target)
        if kind == "after" and hit:
            kill()

    os.replace = replace
    train(out, progress=progress)


def test_killed_at_any_point_and_resumed_equals_uninterrupted(tmp_path):
    def run(out, moment):
        code = "import sys, tests.models.test_training as here; here.train_until_killed(*sys.argv[1:])"
        return run_python(code, out, moment).returncode

    def checkpointed_step():
        with safe_open(str(unfinished / "checkpoint.safetensors"), "pt") as file:
            return json.loads(file.metadata()["facts"])["step"]

    assert run(tmp_path / "whole", "never:") == 0
    cut = tmp_path / "cut"
    unfinished = unfinished_folder(cut) / "new"
    for moment, step in [
        ("step:1", None),
        ("step:7", 6),
        ("instead:checkpoint.safetensors", 6),
        ("step:12", 10),
        ("instead:weights.safetensors", 12),
    ]:
        assert run(cut, moment) == -signal.SIGKILL, moment
        assert not cut.exists()
        assert (unfinished / "checkpoint.safetensors").exists() == (step is not None)
        assert step is None or checkpointed_step() == step, moment
    with open(unfinished / "metrics.jsonl", "a") as file:
        file.write('{"step": 14, "los')
    assert run(cut, "after:results.json") == -signal.SIGKILL
    finished = (unfinished / "results.json").read_bytes()
    assert run(cut, "instead:manifest.json") == -signal.SIGKILL
    assert run(cut, "never:") == 0
    assert (cut / "results.json").read_bytes() == finished, "the training is not done again, which takes another time"

    for name in ("weights.safetensors", *(f"snapshots/step-{n}.safetensors" for n in (0, 5, 11)), "samples.json"):
        assert (cut / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
    assert rows_of(cut) == rows_of(tmp_path / "whole")
    assert [row["step"] for row in rows_of(cut)] == [2, 4, 6, 8, 10, 12, 14]
    results = [json.loads((tmp_path / folder / "results.json").read_text()) for folder in ("cut", "whole")]
    for result in results:
        assert result.pop("wall_seconds") > 0
    assert results[0] == results[1]
    assert not list(cut.glob("*.tmp")) and not (cut / "checkpoint.safetensors").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cut", "whole"]


def rows_of(out: Path) -> list[dict]:
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert all(row.pop("tokens_per_second") > 0 for row in rows)
    return rows


def test_checkpoints_change_nothing(tmp_path):
    train(tmp_path / "often", checkpoint_seconds=0.0)
    train(tmp_path / "never", checkpoint_seconds=1e9)
    for file in ("weights.safetensors", "samples.json"):
        assert (tmp_path / "often" / file).read_bytes() == (tmp_path / "never" / file).read_bytes()


def test_two_steps_of_adamw_by_hand(tmp_path, monkeypatch):
    monkeypatch.setattr("models.training.CLIP_NORM", 0.2)
    config = TrainingConfig(tokens=2 * 4 * N_CTX, batch_size=4, lr=0.01, warmup=0.0, weight_decay=0.3, seed=3)
    config = dataclasses.replace(config, precision="float32")
    model, by_hand = small_model(), small_model().double()
    train_model(model, fibonacci_tokens(10, 0), fibonacci_tokens(6, 1), config, tmp_path)
    named = dict(by_hand.named_parameters())
    first = {name: torch.zeros_like(p) for name, p in named.items()}
    second = {name: torch.zeros_like(p) for name, p in named.items()}
    for step, lr in ((1, 0.01), (2, 0.0005)):
        by_hand.zero_grad()
        tokens = fibonacci_tokens(10, 0)[batch_rows(step - 1, 10, 4, seed=3)]
        by_hand(tokens, return_type="both").loss.backward()
        norm = math.sqrt(sum(float(p.grad.square().sum()) for p in named.values()))
        assert norm > 0.2
        for name, p in named.items():
            gradient = p.grad * 0.2 / norm
            first[name] = 0.9 * first[name] + 0.1 * gradient
            second[name] = 0.99 * second[name] + 0.01 * gradient**2
            if ".W_" in name:
                p.data *= 1 - lr * 0.3
            p.data -= lr * (first[name] / (1 - 0.9**step)) / ((second[name] / (1 - 0.99**step)).sqrt() + 1e-8)
    for name, p in model.named_parameters():
        if name.endswith("b_K"):  # its gradient is zero but for rounding, and AdamW steps along the rounding's sign
            continue
        torch.testing.assert_close(p.double(), named[name], atol=2e-5, rtol=1e-3, msg=name)


def test_learning_rate_rises_and_falls():
    config = TrainingConfig(lr=1.0, warmup=0.1)
    rates = [config.lr_at(step, 100) for step in range(100)]
    assert rates[:10] == pytest.approx([0.1 * (i + 1) for i in range(10)])
    assert rates[10] == pytest.approx(1.0) and rates[-1] == pytest.approx(0.05)
    assert all(one > other for one, other in zip(rates[10:], rates[11:], strict=False))
    halfway = config.lr_at(10 + 89 // 2, 100) + config.lr_at(10 + 89 - 89 // 2, 100)
    assert halfway / 2 == pytest.approx(0.525)


def test_each_epoch_is_another_permutation():
    batches = [batch_rows(step, 10, 4, seed=0) for step in range(5)]
    places = torch.cat(batches)
    assert all(len(batch) == 4 for batch in batches)
    assert sorted(places[:10].tolist()) == sorted(places[10:].tolist()) == list(range(10))
    assert places[:10].tolist() != places[10:].tolist()
    assert not torch.equal(places, torch.cat([batch_rows(step, 10, 4, seed=1) for step in range(5)]))
    assert sorted(batch_rows(0, 3, 6, seed=0).tolist()) == [0, 0, 1, 1, 2, 2]


def test_learns_what_no_bigram_can(tmp_path):
    config = TrainingConfig(tokens=250 * 16 * N_CTX, batch_size=16, lr=0.01, precision="float32")
    train_tokens, val_tokens = fibonacci_tokens(400, 0), fibonacci_tokens(50, 1)
    model, characters = small_model(d_model=32, d_mlp=64), 123
    result = train_model(model, train_tokens, val_tokens, config, tmp_path, val_characters=characters)
    # The second token of the eight is random, the six after it follow.
    assert math.log(D_VOCAB) / 7 - 0.05 < result.val_loss < 0.5 < 0.95 * math.log(D_VOCAB) < result.bigram_cross_entropy
    assert result.bits_per_character == pytest.approx(result.val_loss * val_tokens.numel() / characters / math.log(2))
    per_token = model(val_tokens, return_type="loss", loss_per_token=True)
    assert result.val_loss == pytest.approx(per_token.mean().item(), rel=1e-5)
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if "val_loss" in row] == [200, 250]
    assert rows[-1]["val_loss"] == pytest.approx(result.val_loss, rel=1e-5)
    assert rows[-1]["tokens"] == result.tokens == 250 * 16 * N_CTX


def test_snapshots_are_the_weights_of_their_step(tmp_path):
    seen = {}
    model = small_model()
    seen[0] = {name: tensor.clone() for name, tensor in model.state_dict().items()}

    def progress(done, total, note):
        seen[done] = {name: tensor.clone() for name, tensor in model.state_dict().items()}

    train(tmp_path, model=model, progress=progress)
    for step in (0, 5, 11):
        snapshot = Transformer.load(tmp_path, f"snapshots/step-{step}.safetensors").state_dict()
        assert all(torch.equal(snapshot[name], seen[step][name]) for name in snapshot)
    assert not torch.equal(seen[5]["embed.W_E"], seen[11]["embed.W_E"])


def test_a_finished_run_is_read_back_and_another_one_refused(tmp_path):
    result = train(tmp_path)
    calls, model = [], small_model()
    again = train(tmp_path, model=model, progress=lambda *call: calls.append(call))
    assert again == result and len(calls) == 1
    assert torch.equal(model.W_E, Transformer.load(tmp_path).W_E)
    other = dataclasses.replace(CONFIG, lr=0.5)
    with pytest.raises(OverwriteError, match=r"training\.lr is 0.006, not 0.5;"):
        train(tmp_path, other)
    with pytest.raises(OverwriteError, match="not the same initial weights"):
        train(tmp_path, model=small_model(seed=4))
    assert train(tmp_path, other, overwrite=True).val_loss != result.val_loss


def test_a_changed_result_is_not_read_back(tmp_path):
    train(tmp_path / "model")
    (tmp_path / "model" / "results.json").write_text("{}")
    with pytest.raises(DamagedError, match=r"results.json is .*delete .*model to train again"):
        train(tmp_path / "model")


def test_samples_and_characters_come_from_the_tokenizer(tmp_path):
    result = train(tmp_path)
    samples = json.loads((tmp_path / "samples.json").read_text())
    assert len(samples) == 4 and all(set(sample["text"]) <= set("abcdef") for sample in samples)
    val = fibonacci_tokens(6, 1)
    characters = int((val != 0).sum())
    assert result.bits_per_character == pytest.approx(result.val_loss * 48 / characters / math.log(2))
    assert train(tmp_path / "plain", tokenizer=None).bits_per_character is None
    assert not (tmp_path / "plain" / "samples.json").exists()


def test_a_loss_that_is_not_finite_names_its_step(tmp_path):
    model = small_model()

    def spoil(done, total, note):
        if done == 5:
            model.W_E.data.fill_(torch.nan)

    with pytest.raises(ValueError, match="step 6: the loss is nan"):
        train(tmp_path, dataclasses.replace(CONFIG, val_every=100), model=model, progress=spoil)
    assert not (tmp_path / "results.json").exists()


@pytest.mark.parametrize(
    "train_tokens, val_tokens, message",
    [
        (torch.zeros(3, 9), torch.zeros(3, 8), r"train_tokens of shape \(3, 9\)"),
        (torch.zeros(3, 8), torch.zeros(0, 8), r"val_tokens of shape \(0, 8\)"),
        (torch.full((3, 8), 7), torch.zeros(3, 8), "train_tokens hold ids 7..7; .* d_vocab=7"),
    ],
)
def test_tokens_that_do_not_fit_are_refused(tmp_path, train_tokens, val_tokens, message):
    with pytest.raises(ValueError, match=message):
        train_model(small_model(), train_tokens.int(), val_tokens.int(), CONFIG, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("field, value", [("batch_size", 0), ("lr", -1.0), ("warmup", 2), ("precision", "float16")])
def test_a_config_that_cannot_run_is_refused(field, value):
    with pytest.raises(ValueError, match=f"{field}="):
        TrainingConfig(**{field: value})


def test_evaluate_loss_weighs_a_short_last_batch_by_its_size():
    model, tokens = small_model(), fibonacci_tokens(5, 2)
    assert evaluate_loss(model, tokens, batch_size=2) == pytest.approx(evaluate_loss(model, tokens, batch_size=5))


def test_evaluate_loss_refuses_tokens_of_which_none_follows_another():
    model, tokens = small_model(), fibonacci_tokens(5, 2)
    for without in (tokens[:0], tokens[:, :1]):
        with pytest.raises(ValueError, match="hold no pair"):
            evaluate_loss(model, without)
    with pytest.raises(ValueError, match="batch_size=0 must be at least 1"):
        evaluate_loss(model, tokens, batch_size=0)


def naive_bigram(train_pairs, held_pairs, discount, weight, alpha):
    total = 0.0
    for a, b in held_pairs:
        after_a = [y for x, y in train_pairs if x == a]
        unigram = (sum(y == b for _, y in train_pairs) + alpha) / (len(train_pairs) + alpha * D_VOCAB)
        backed_off = max(after_a.count(b) - discount, 0) + (weight + discount * len(set(after_a))) * unigram
        total -= math.log(backed_off / (len(after_a) + weight) if after_a else unigram)
    return total / len(held_pairs)


@pytest.mark.parametrize("discount, weight", [(0.0, 3.0), (0.7, 0.0), (0.25, 1.0)])
def test_bigram_probabilities_are_the_formula_and_sum_to_one(discount, weight):
    train_pairs = torch.randint(0, D_VOCAB - 1, (40, 2), generator=torch.Generator().manual_seed(0)).numpy()
    train_pairs[:, 0] //= 2
    everything = torch.cartesian_prod(torch.arange(D_VOCAB), torch.arange(D_VOCAB)).numpy()
    counts, unigram = Bigrams(train_pairs, D_VOCAB), unigram_of(train_pairs, D_VOCAB)
    alphas = [a for a in (0.01, 0.03, 0.1, 0.3, 1.0) if abs(unigram.p.min() - a / (40 + a * D_VOCAB)) < 1e-9]
    expected = naive_bigram(train_pairs.tolist(), everything.tolist(), discount, weight, alphas[0])
    assert counts.cross_entropy(everything, unigram, discount, weight) == pytest.approx(expected)
    for a in range(D_VOCAB):
        row = everything[everything[:, 0] == a]
        p = [math.exp(-counts.cross_entropy(row[[b]], unigram, discount, weight)) for b in range(D_VOCAB)]
        assert sum(p) == pytest.approx(1)


def test_cross_entropies_reach_the_entropies_of_a_markov_chain():
    generator = torch.Generator().manual_seed(0)
    transition = (1.5 * torch.randn(D_VOCAB, D_VOCAB, generator=generator)).double().softmax(1)
    stationary = torch.linalg.matrix_power(transition, 200)[0]
    tokens = [torch.multinomial(stationary, 2200, replacement=True, generator=generator)]
    for _ in range(15):
        tokens.append(torch.multinomial(transition[tokens[-1]], 1, generator=generator)[:, 0])
    rows = torch.stack(tokens, 1)
    rate = -(stationary[:, None] * transition * transition.log()).sum().item()
    entropy = -(stationary * stationary.log()).sum().item()
    assert bigram_cross_entropy(rows[:2000], rows[2000:], D_VOCAB) == pytest.approx(rate, abs=0.05)
    assert unigram_cross_entropy(rows[:2000], rows[2000:], D_VOCAB) == pytest.approx(entropy, abs=0.05)


def test_cross_entropies_take_pairs_never_seen_and_refuse_foreign_tokens():
    train_tokens, unseen = torch.zeros(5, 4, dtype=torch.int32), torch.full((2, 4), 5, dtype=torch.int32)
    assert 0 < unigram_cross_entropy(train_tokens, unseen, D_VOCAB) < math.inf
    assert 0 < bigram_cross_entropy(train_tokens, unseen, D_VOCAB) < math.inf
    with pytest.raises(ValueError, match=r"token 5 must be in 0\.\.4"):
        bigram_cross_entropy(train_tokens, unseen, 5)
