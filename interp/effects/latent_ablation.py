"""Measure the effect of each latent on the model's predictions by running the model again without it, on sampled
sequences.

In: a model, a dictionary of one of its hooks, and a scan. Out: a table with a row per latent. Over sampled sequences
where the latent fires, let p be the next-token probabilities of the unchanged model, and p' those with the latent
ablated at all its firings (x − z_j d_j, the rest of x kept).

    loss_change           mean of CE' − CE at the firings, nats
    later_loss_change     the same at later positions of the sequence where it does not fire
    total_change          sum of CE' − CE over the sequence, per firing
    ce_rise               total_change × density: rise of the mean cross-entropy over all tokens without it, nats per
                          token
    kl                    mean of KL(p ‖ p') at the firings, nats
    null_loss_change      loss_change for a change of equal length along another latent, another one at each position;
                          NaN, as the two below, if no other latent fires
    null_kl               kl for the same change
    beyond_null           loss_change − null_loss_change, at the same firings: the latent's value to the model, compared
                          with any change of that length. If its interval is above 0 the latent has an effect
    gradient_effect       sum of −z_j d_j · gradient of the sequence's loss, per firing: total_change to first order
    likelier_tokens       the text's tokens with the largest mean of log p − log p' at the firings; `likelier`: its nats
    less_likely_tokens    the smallest, `less_likely`
    likelier_strings, less_likely_strings
                          the strings of these tokens, if the scan has them

`_low` and `_high` are a 95 % interval (`ratio_interval`). Tokens that the scan left out (BOS, rows above the norm
limit) neither change nor count. In a calibrated model any change raises the loss by about its KL, so a latent helps
only if removing it costs more.

Limits: a few sequences order the latents by loss_change only roughly, and by beyond_null still more so. If two latents
are redundant, each has little effect. Half precision adds noise at each later position, so total_change suffers more
from it than loss_change. A gradient and an ablation on the same few sequences share their noise, so they agree less,
the more sequences there are.
"""

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch

from interp.activations.hooks import Model, evaluating, module_of
from interp.activations.next_tokens import check_predicts_next
from interp.checks.arguments import check_latents, check_token_ids
from interp.checks.limits import PositiveInt, check_value
from interp.codes.dictionary import Dictionary
from interp.codes.dictionary_hooks import dictionary_hooks
from interp.effects.ablation_batch import sampled_sequences
from interp.effects.ablation_config import AblationConfig
from interp.effects.ablation_plan import latents_at_once, plan_ablations
from interp.effects.effect_tables import EffectTables
from interp.evaluation.downstream_finder import downstream_of
from interp.features.feature_store import FeatureStore
from interp.features.scan_checks import check_dictionary_of_scan, check_part_tables, scan_identity
from interp.runtime.model_sizes import size_of
from interp.runtime.processes import processes
from interp.runtime.progress import Progress, no_progress
from interp.runtime.progress_bar import shows_progress
from interp.storage.files import digest
from interp.storage.job_parts import check_part
from interp.storage.manifests import MADE_OF

log = logging.getLogger(__name__)


@shows_progress
def feature_effects(
    model: Model,
    hook: str,
    dictionary: Dictionary,
    features: FeatureStore,
    *,
    latents: Sequence[int] | None = None,
    n_tokens: int = 10,
    output_hook: str | None = None,
    part: tuple[int, int] = (0, 1),
    sequences: int = 64,
    minutes: float | None = None,
    seed: int = 0,
    progress: Progress = no_progress,
) -> pd.DataFrame:
    """Measure the effect of each latent. Returns one row per latent, with the columns above and latent, n_sequences,
    n_firings, mean_activation. They are NaN for a latent that does not fire.

    latents: those to ablate, by default all.
    n_tokens: the number of tokens in likelier_tokens and in less_likely_tokens.
    output_hook: the hook that a transcoder writes.
    part: (rank, count), to ablate only every count-th of the latents; `join_effects` joins the tables of all parts.
    sequences: at most this many for each latent, drawn from those where it fires.
    minutes: time limit on two processor cores, of all parts together; by default none. If ablation would take longer,
        each latent is ablated in fewer sequences, and then fewer latents are (`AblationConfig`).
    seed: of what is drawn.
    progress: called with (done, all, note).

    Under `torchrun`, all processes call this with the same arguments. The sequences are divided among them, since each
    serves many latents, and each process gets the whole table.

    `attrs`: rerun_part (the part of the model that was rerun), sequences (used, at most), firing (number of the
    requested latents that fire), minutes (estimated), seed, gradient_agreement (Spearman of
    gradient_effect and total_change, over the latents), and features (`scan_identity`).
    Raises ValueError if model, dictionary and scan do not belong together, and for a model that predicts no next
    tokens.
    """
    config = AblationConfig(sequences=sequences, minutes=minutes, seed=seed)
    check_value("n_tokens", n_tokens, PositiveInt)
    module = module_of(model)
    hooks = dictionary_hooks(model, hook, dictionary, output_hook)
    check_dictionary_of_scan(features, dictionary, model, hook)
    check_token_ids(features.tokens, size_of(module, "d_vocab"))
    check_predicts_next(model, features.tokens)
    chosen = torch.tensor(check_latents(range(features.d_sae) if latents is None else latents, features.d_sae))
    world = processes()
    rank, count = check_part(part)
    with evaluating(module):
        downstream = downstream_of(module, hooks, features.tokens[:2])
        plan = plan_ablations(features, downstream, dictionary, chosen, config)
        made_of: dict[str, Any] = {
            "sequences": plan.sequences,
            "n_tokens": n_tokens,
            "seed": config.seed,
            "latents": digest(plan.latents),
            "rerun_part": downstream.rerun_part,
        }
        world.check_alike([scan_identity(features), made_of, rank, count], "ablates")
        latents_here = plan.latents[rank::count]
        what = f"{len(latents_here):,} latents, each in at most {plan.sequences} sequences"
        share = len(latents_here) / max(len(plan.latents), 1) / world.count
        pairs = round(plan.pairs * share)
        minutes_here = plan.minutes * share
        log.info("effects of %s: about %.1f minutes on two processor cores", what, minutes_here)
        estimate = f"about {minutes_here:.0f} min" if minutes_here >= 1 else "under a minute"
        progress(0, pairs, f"{what}: {estimate} on two free processor cores")
        run = EffectTables(
            features,
            downstream,
            dictionary,
            n_tokens=n_tokens,
            seed=config.seed,
            n_pairs=pairs,
            progress=progress,
            world=world,
        )
        blocks = latents_here.split(latents_at_once(downstream.readout.d_state, plan.sequences))
        tables = [run.table(block, sampled_sequences(features, block, plan.sequences, config.seed)) for block in blocks]
        run.check_fires(features.path)
    table = pd.concat(tables, ignore_index=True)
    table["ce_rise"] = table["total_change"] * features.column("density")[table["latent"]]
    for side in ("likelier", "less_likely") if features.has_vocab else ():
        table[f"{side}_strings"] = [[features.vocab[token] for token in ids] for ids in table[f"{side}_tokens"]]
    table.attrs |= {
        "rerun_part": downstream.rerun_part,
        "sequences": plan.sequences,
        "firing": plan.firing,
        "minutes": plan.minutes,
        "seed": config.seed,
    }
    table.attrs["gradient_agreement"] = _gradient_agreement(table)
    table.attrs |= {"features": scan_identity(features)} | (
        {"part": [rank, count], MADE_OF: made_of} if count > 1 else {}
    )
    return table


def join_effects(parts: Sequence[pd.DataFrame], names: Sequence[str] | None = None) -> pd.DataFrame:
    """Join all parts of a table into the one that `feature_effects` returns for all latents.
    names: names of the parts in errors.

    Raises ValueError for parts of different work, and for duplicate or missing parts.
    """
    check_part_tables(parts, names)
    table = _interleave(sorted(parts, key=lambda part: part.attrs["part"][0]))
    table.attrs |= {name: value for name, value in parts[0].attrs.items() if name not in ("part", MADE_OF)}
    table.attrs["gradient_agreement"] = _gradient_agreement(table)
    return table


def _interleave(parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Interleave the rows of n parts, each of which has every n-th row."""
    rank_of_row = np.concatenate([rank + len(parts) * np.arange(len(part)) for rank, part in enumerate(parts)])
    table = pd.concat([pd.DataFrame(part).assign() for part in parts], ignore_index=True)
    return table.iloc[rank_of_row.argsort()].reset_index(drop=True)


def _gradient_agreement(table: pd.DataFrame) -> float:
    """Return Spearman's correlation, over the latents, of gradients and ablations."""
    return float(table["gradient_effect"].corr(table["total_change"], method="spearman"))
