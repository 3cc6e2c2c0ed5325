"""Do dictionary features say more than neurons in a one-layer model, and are some of them features of a context?

    python -m analyses.claims.towards_monosemanticity                   trains the demo's model first; resumes
    python -m analyses.claims.towards_monosemanticity --run runs/demo   with the model and the text of a run
    python -m analyses.claims.towards_monosemanticity --quick           a tiny model, for the tests

After Towards Monosemanticity (Bricken et al. 2023): a one-layer transformer with a ReLU MLP of 512 neurons, and on
`blocks.0.mlp.hook_post` ReLU dictionaries of 1×, 8× and 32× that size by its recipe.

Claim 11   a  L0 ≤ 20 at ≥ 79 % of the CE loss recovered, against zero and against mean ablation, at 8×
           b  with resampling a smaller share of the latents is dead than without, at 1× and 8× where any is without
           c  features beat neurons, and the features of a model with shuffled weights, on logit-token consistency: the
              AUROC of a latent's direct effects for the tokens that follow its firings (`scores.logits`)
           d  and on the ranking: the share called monosemantic of the latents that can be tested (`rank_codes`)
Claim 12   for at least 3 of Arabic, Hebrew, DNA and base64, the best feature's r with the label's log-likelihood proxy
           is ≥ 0.2 above the best neuron's; specificity and sensitivity by activation interval are drawn

Numbers are means over the seeds of the dictionaries (1× and 8×: 3 seeds; 32×: 1, so that it fits ten minutes; one
model), with 95 % intervals from a bootstrap over latents within seeds. The best latent and the best neuron of a label
are chosen on the half of the sequences that the proxy is counted on (`proxies`), and r is measured on the other half. λ
= 3 was chosen on short runs, so that L0 is below 20 at 8×; nothing else was.

Two cautions. The neurons here are sparse themselves (L0 about 20 without any dictionary), and a few of them recover CE
well. So the table of sizes also shows the neurons at the L0 of the dictionaries. A token detector easily follows a
proxy of single tokens. So the features of the shuffled model, which detect tokens at best, are shown too.

Writes `results.json` (numbers, seeds, versions, a verdict per claim) and the figures sizes, feature_against_neuron,
sensitivity and specificity-LABEL as HTML.
"""

import argparse
import dataclasses
import json
import logging
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from analyses.bench.peers import versions
from analyses.claims.dictionary_claims import NEURONS, SHUFFLED, eleven, shown_sizes, summary, twelve
from analyses.claims.dictionary_measures import (
    HOOK,
    LABELS,
    Setting,
    Studied,
    Trained,
    follow,
    judge,
    measure,
    sizes_of,
)
from analyses.claims.proxy_figures import feature_against_neuron, sensitivity, sizes_table, specificity
from analyses.record import check_run, parse_with_out
from interp import Run, harvest, run_stages, train_sae, train_sweep
from interp.activations import ActivationStore
from interp.evaluation.baselines import NeuronDictionary, shuffled_model
from interp.pipeline.config import RunConfig
from interp.sae import ReLUConfig
from interp.storage.files import write_json

RECIPE: dict[str, Any] = {"unit_norm": True, "clip": None, "l1_warmup": 0.0, "aux_coefficient": 0.0}
RECIPE |= {"resample_at": (0.125, 0.25, 0.375, 0.5)}
"""Of Towards Monosemanticity: unit decoder rows, a plain L1 penalty, resampling four times in the first half."""
QUICK = Setting(
    tokens=30_000, judged_tokens=30_000, sae_tokens=5_000, seeds={1: 1, 2: 2}, main=2, judged=8, quality_tokens=1_000
)


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    options = parse(arguments)
    torch.set_num_threads(options.threads)
    setting, out, start = QUICK if options.quick else Setting(), options.out, time.monotonic()
    studied = study(options, setting, out)
    say(start, "model and activations")
    entries = train_all(studied, setting, out)
    say(start, f"{len(entries)} dictionaries")
    measured = [measure(entry, studied, setting, out) for entry in entries]
    say(start, "all encoded")
    sizes = sizes_of(measured, studied, setting)
    judged = judge(measured, studied, setting, out)
    say(start, "all judged")
    labels = pd.concat([one.labels for one in measured], ignore_index=True)
    claims = [*eleven(sizes, judged, f"{setting.main}×"), twelve(labels, f"{setting.main}×")]
    details = {label: follow(label, measured, studied, setting) for label in LABELS}
    save_figures(sizes, labels, details, setting, out)
    results = {
        "claims": claims,
        "sizes": records(sizes),
        "judged": records(summary(judged)),
        "labels": records(labels),
        "intervals": {label: records(table) for label, table in details.items()},
        "setting": {**dataclasses.asdict(setting), "hook": HOOK, "model": studied.run.config.model.preset},
        "seeds": {"model": studied.run.config.model.seed, "dictionaries": list(range(max(setting.seeds.values())))},
        "versions": versions(),
        "seconds": round(time.monotonic() - start),
    }
    write_json(out / "results.json", results)
    shutil.rmtree(out / "work", ignore_errors=True)
    show(sizes, claims)
    return results


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, help="the folder of a run whose model has one layer; it is only read")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--threads", type=int, default=2)
    options = parse_with_out(parser, arguments, Path("runs/towards_monosemanticity"))
    if options.run:
        check_run(parser, "--run", options.run, ("corpus", "model"), LABELS)
    return options


def study(options: argparse.Namespace, setting: Setting, out: Path) -> Studied:
    config = RunConfig.tiny() if options.quick else RunConfig()
    run = Run(options.run) if options.run else run_stages(config, out / "model", until="model")
    models = {False: run.model, True: shuffled_model(run.model)}

    def stores(name: str, n_tokens: int) -> dict[bool, ActivationStore]:
        tokens, out_of = run.train_tokens.tokens[: max(1, n_tokens // run.train_tokens.n_ctx)], out / "work"
        return {
            shuffled: harvest(
                model, tokens, [HOOK], out_of / f"{name}-{int(shuffled)}", exclude=(run.tokenizer.bos_id,)
            )
            for shuffled, model in models.items()
        }

    return Studied(run, stores("trained", setting.tokens), stores("judged", setting.judged_tokens), models)


def train_all(studied: Studied, setting: Setting, out: Path) -> list[Trained]:
    """Train every width on the model, and the main width on the shuffled model. Widths with several seeds are also
    trained without resampling. Returns these and the neurons of both models."""
    d_mlp = studied.stores[False].d(HOOK)
    entries = [Trained(NEURONS, 0, 0, True, NeuronDictionary(d_mlp))]
    entries.append(Trained(f"{NEURONS}, {SHUFFLED}", 0, 0, True, NeuronDictionary(d_mlp)))
    for factor, n_seeds in setting.seeds.items():
        for seed in range(n_seeds):
            shared: dict[str, Any] = {"d_sae": factor * d_mlp, "tokens": setting.sae_tokens, "l1": setting.l1}
            config = ReLUConfig(**RECIPE, **shared, batch_size=setting.batch_size, seed=seed, device="cpu")
            plain, folder = dataclasses.replace(config, resample_at=()), out / "dictionaries" / f"{factor}-{seed}"
            configs = [config, plain] if n_seeds > 1 else [config]
            saes = train_sweep(studied.stores[False], HOOK, configs, out=folder)
            entries += [Trained(f"{factor}×", factor, seed, i == 0, sae) for i, sae in enumerate(saes)]
            if factor == setting.main:
                sae = train_sae(studied.stores[True], HOOK, config, out=folder.with_name(f"{folder.name}-shuffled"))
                entries.append(Trained(f"{factor}×, {SHUFFLED}", factor, seed, True, sae))
    return entries


def save_figures(
    sizes: pd.DataFrame, labels: pd.DataFrame, details: Mapping[str, pd.DataFrame], setting: Setting, out: Path
) -> None:
    columns = {"name": "dictionary", "n": "latents", "seeds": "seeds", "l0": "L0", "fvu": "FVU"}
    columns |= {"ce_recovered_zero": "CE, zero", "ce_recovered_mean": "CE, mean", "dead_share": "dead"}
    formats = ["", ",.0f", ".0f", ".1f", ".3f", ".1%", ".1%", ".1%"]
    saved = {"sizes": sizes_table(shown_sizes(sizes), columns=columns, formats=formats)}
    saved["feature_against_neuron"] = feature_against_neuron(labels[labels.resampled])
    saved["sensitivity"] = sensitivity(pd.concat(details.values(), ignore_index=True))
    for label, table in details.items():
        rows = table[table.who == "best feature"]
        name = f"latent {rows.latent.iloc[0]} of {setting.main}×, seed 0"
        saved[f"specificity-{label}"] = specificity(rows, label=label, name=name)
    for name, figure in saved.items():
        figure.write_html(out / f"{name}.html", include_plotlyjs="directory")


def records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return rows for JSON, with None in place of NaN."""
    return json.loads(table.to_json(orient="records"))


def show(sizes: pd.DataFrame, claims: Sequence[Mapping[str, Any]]) -> None:
    print(shown_sizes(sizes).to_string(index=False, float_format="{:.3f}".format))
    for claim in claims:
        print(f"{'held    ' if claim['held'] else 'not held'} {claim['claim']}\n         {rounded(claim['numbers'])}")


def rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(float(value), 3)
    if isinstance(value, Mapping):
        return {key: rounded(each) for key, each in value.items()}
    return [rounded(each) for each in value] if isinstance(value, list | tuple) else value


def say(start: float, text: str) -> None:
    print(f"{time.monotonic() - start:6.0f} s  {text}", flush=True)


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    main()
