"""When are features born in training?

    python -m analyses.claims.features_in_training            trains the model first; resumes
    python -m analyses.claims.features_in_training --quick    a tiny model, for the tests: the numbers mean nothing

Dictionaries of one seed are trained at checkpoints of a training, on the same text. `analyses.claims.feature_lives`
follows their features from one checkpoint to the next. After Xu et al. 2024 (arXiv 2412.17626), who train one
dictionary on through the checkpoints.

Claims tested (row 29)
    29a  in a planted curriculum at least 90 % of births are found within one checkpoint of the truth, and at most 5 %
         of features are called born when the checkpoints are shuffled, both on average over seeds. Concepts enter at
         a checkpoint, and some leave again; each checkpoint assigns them other directions, and has a BatchTopK
         dictionary of two passes. (With one pass of TopK and 4 latents on each row, where a row has 3 concepts on
         average and some have none, 31 of 48 births were found: what a dictionary misses cannot be born.)
    29b  in the demo's model: how many features are born, and when, next to shuffled checkpoints; no bar to pass.
         The figures show their lives, and when each label's best feature appears, with the loss curve
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from analyses.claims import checkpoint_figures
from analyses.claims.compared_dictionaries import HOOK, TINY, Sizes, activations, encoded, studied_run
from analyses.claims.feature_lives import MIN_RUN, feature_lives
from analyses.record import Claim, Record, interval, options
from interp import BatchTopKConfig, Run, TopKConfig, train_sae
from interp.activations import ActivationStore
from interp.codes.code_store import CodeStore
from interp.codes.sparse_codes import SparseCodes
from interp.compare.latent_universality import MIN_FIRED
from interp.features.latent_matches import best_matches, joint_sums
from interp.statistics.estimates import ratio
from models.evaluation import evaluate_loss
from models.transformer import Transformer


@dataclass(frozen=True, kw_only=True)
class Setting(Sizes):
    tokens: int = 150_000
    compared: int = 50_000
    factor: int = 2
    """Latents of a dictionary a neuron."""
    concepts: int = 60
    """Number of concepts in the planted curriculum."""
    d: int = 48
    checkpoints: int = 10
    rows: int = 40_000
    """Number of rows on which a dictionary of the curriculum is trained."""


QUICK = Setting(**TINY | dict(tokens=10_000), concepts=20, d=24, checkpoints=4, rows=3_000)


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    o = options(__doc__, "features_in_training", arguments, "runs/compare")
    setting = QUICK if o.quick else Setting()
    record = Record(o.out, setting, svg=not o.quick)
    planted = [
        record.piece(f"planted-{seed}", partial(planted_births, seed, setting, o.out / "work"))
        for seed in setting.seeds
    ]
    run = studied_run(setting, o.out)
    losses = record.piece("losses", lambda: {"losses": [loss_at(step, run) for step in steps_of(run)]})["losses"]
    results_of_seeds = [
        record.piece(f"seed-{seed}", partial(lives_of_seed, seed, setting, run, o.out / "work"))
        for seed in setting.seeds
    ]
    steps, first = steps_of(run), results_of_seeds[0]
    shown = dict(steps=steps, losses=losses)
    drawn = {
        "feature_lives": checkpoint_figures.feature_lives(table_of(first), first["presence"], **shown),
        "concept_births": checkpoint_figures.concept_births(first["label_f1"], first["labels"], **shown),
    }
    results = record.finish([planted_claim(planted), trained_claim(results_of_seeds, steps)], drawn)
    shutil.rmtree(o.out / "work", ignore_errors=True)
    return results


def planted_births(seed: int, setting: Setting, work: Path) -> dict[str, Any]:
    """Return the number of planted births that are found, and how many features are called born when checkpoints are
    shuffled."""
    generator, n, t = torch.Generator().manual_seed(seed), setting.concepts, setting.checkpoints
    born = torch.randint(1, t - MIN_RUN + 1, (n,), generator=generator)
    born[: n // 5] = 0
    leaves = born + MIN_RUN < t - 1
    died = torch.where(leaves & (torch.rand(n, generator=generator) < 0.15), born + MIN_RUN, t)

    def strengths(rows: int) -> torch.Tensor:
        active = torch.rand(rows, n, generator=generator) < 3 / n
        return active * (0.5 + torch.rand(rows, n, generator=generator))

    z, judged, codes = strengths(setting.rows), strengths(6_000), []
    for checkpoint in range(t):
        is_present = ((born <= checkpoint) & (checkpoint < died)).float()
        directions = torch.nn.functional.normalize(torch.randn(n, setting.d, generator=generator), dim=1)
        x, y = ((each * is_present) @ directions for each in (z, judged))
        x = x + 0.02 * torch.randn(x.shape, generator=generator)
        store = ActivationStore.from_batches(x.split(4096), work / f"planted-{seed}-{checkpoint}", overwrite=True)
        config = BatchTopKConfig(d_sae=n + n // 4, k=3, tokens=2 * setting.rows, batch_size=512, seed=seed)
        codes.append(train_sae(store, store.hook_names[0], config).codes(y))
    lives = feature_lives(codes, seed=seed)
    truth = SparseCodes.from_dense(judged)
    best = [best_matches(each, truth) for each in codes]
    birth_of: dict[int, float] = {}
    for row in lives.table[lives.table["kind"] == "born"].itertuples():
        matches = best[int(row.checkpoint)]
        if matches.correlation[row.latent] >= 0.7:
            birth_of.setdefault(int(matches.other[row.latent]), float(row.born))
    planted = torch.nonzero(born)[:, 0].tolist()
    right = [k for k in planted if k in birth_of and abs(birth_of[k] - int(born[k])) <= 1]
    return {"births": len(planted), "right": len(right), "shuffled": lives.null, "share_born": lives.share_born}


def steps_of(run: Run) -> tuple[int, ...]:
    return run.config.training.snapshot_steps


def model_at(step: int, run: Run) -> Transformer:
    return Transformer.load(run.path / "model", weights=f"snapshots/step-{step}.safetensors")


def loss_at(step: int, run: Run) -> float:
    return evaluate_loss(model_at(step, run), run.val_tokens.tokens[:128])


def lives_of_seed(seed: int, setting: Setting, run: Run, work: Path) -> dict[str, Any]:
    """Return the lives of features of one dictionary a checkpoint, and the F1 of each label's best latent at each."""
    labels = list(run.train_tokens.label_names)
    n = max(1, setting.compared // run.train_tokens.n_ctx)
    masks = torch.stack([run.train_tokens.labels[label][:n].flatten() for label in labels], 1)
    truth, codes = SparseCodes.from_dense(masks.float()), []
    for step in steps_of(run):
        model, shared = model_at(step, run), work / f"step-{step}"
        trained = activations(model, run, setting.tokens, shared / "trained")
        judged = activations(model, run, setting.compared, shared / "judged")
        config = TopKConfig(d_sae=setting.factor * trained.d(HOOK), k=setting.k, tokens=setting.tokens, seed=seed)
        sae = train_sae(trained, HOOK, config)
        codes.append(encoded(sae, judged, shared / f"codes-{seed}"))
    lives = feature_lives(codes, seed=seed)
    kinds = {kind: float((lives.table["kind"] == kind).mean()) for kind in ("there", "born", "flickers", "passing")}
    columns = {name: lives.table[name].to_numpy(float) for name in ("checkpoint", "born", "died")}
    return {
        **columns,
        "kind": lives.table["kind"].tolist(),
        "presence": lives.presence.astype(np.float32),
        "kinds": kinds,
        "split": float(np.mean([each is True for each in lives.table["split"] if each is not None] or [0.0])),
        "shuffled": lives.null,
        "labels": labels,
        "label_f1": np.stack([best_f1(truth, each) for each in codes], 1),
    }


def best_f1(truth: SparseCodes, codes: CodeStore) -> np.ndarray:
    """Return, for each label, the F1 of the latent whose firing detects it best; labels on few rows have none."""
    (sums,) = joint_sums(truth, codes, [(0, 0)])
    f1 = ratio(2 * sums.products[0], sums.ours.fired[:, None] + sums.theirs.fired, empty=0.0).max(1)
    return np.where(sums.ours.fired >= MIN_FIRED, f1, 0.0)


def table_of(results: dict[str, Any]) -> pd.DataFrame:
    return pd.DataFrame({name: results[name] for name in ("kind", "checkpoint", "born", "died")})


def planted_claim(seeds: Sequence[dict[str, Any]]) -> Claim:
    right, false = (
        interval([each["right"] / each["births"] for each in seeds]),
        [each["shuffled"] for each in seeds],
    )
    return Claim(
        row="29a",
        text="≥ 90 % of planted births are found within a checkpoint; ≤ 5 % are false when checkpoints are shuffled.",
        holds=right.mean >= 0.9 and float(np.mean(false)) <= 0.05,
        found=f"Found {right.percent()}, called born when shuffled {interval(false).percent()}; {len(seeds)} seeds of "
        f"{seeds[0]['births']} births, features called born {interval([e['share_born'] for e in seeds]).percent()}.",
        numbers={"right": right, "shuffled": false},
    )


def trained_claim(seeds: Sequence[dict[str, Any]], steps: Sequence[int]) -> Claim:
    kinds = {kind: interval([each["kinds"][kind] for each in seeds]) for kind in seeds[0]["kinds"]}
    shuffled, split = (interval([each[name] for each in seeds]) for name in ("shuffled", "split"))
    births = [steps[int(at)] for each in seeds for at in each["born"] if at == at]
    when = f"half of them by step {int(np.median(births)):,} of {steps[-1]:,}" if births else "none"
    shares = ", ".join(f"{kind} {share.percent()}" for kind, share in kinds.items())
    return Claim(
        row="29b",
        text="How many features of the model are born during training, and when.",
        holds=None,
        found=f"{shares}; of those born, {split.percent()} split off an older one, {when}; called born when "
        f"checkpoints are shuffled {shuffled.percent()}; {len(seeds)} seeds of dictionaries.",
        numbers={"kinds": kinds, "shuffled": shuffled, "split": split},
    )


if __name__ == "__main__":
    main()
