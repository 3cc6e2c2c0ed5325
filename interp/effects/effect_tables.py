"""The table of the effects of some latents, from ablations of each on its own sequences.

Each pair of a latent and a sequence has its sums over the firings, so that a mean over the latent's sequences has an
interval (`ratio_interval`). `interp.effects.latent_ablation` defines the columns.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import scipy.special
import torch
from jaxtyping import Bool, Float, Float64, Int
from torch import Tensor

from interp.activations.hooks import to_model
from interp.checks.errors import InterpError
from interp.codes.dictionary import Dictionary
from interp.effects.ablation_batch import NUMBERS_AT_ONCE, AblationBatch, Firings, NullDirections
from interp.evaluation.downstream import Downstream
from interp.features.feature_store import FeatureStore
from interp.runtime.processes import Processes
from interp.runtime.progress import Progress
from interp.runtime.threads import slices
from interp.statistics.estimates import ratio

Sums = Float64[np.ndarray, "latent sequence"]
_SUMS = (
    "firings",
    "activation",
    "targets",
    "loss",
    "later",
    "later_loss",
    "kl",
    "normaliser",
    "gradient",
    "null_loss",
    "null_kl",
)
_MEANS = {
    "loss_change": ("loss", "targets"),
    "later_loss_change": ("later_loss", "later"),
    "total_change": ("total", "firings"),
    "kl": ("kl", "firings"),
    "null_loss_change": ("null_loss", "targets"),
    "null_kl": ("null_kl", "firings"),
    "beyond_null": ("beyond_null", "targets"),
    "gradient_effect": ("gradient", "firings"),
}


class EffectTables:
    """Ablate some latents. Each process of the run ablates in its own sequences, and all get the same tables."""

    def __init__(
        self,
        features: FeatureStore,
        downstream: Downstream,
        dictionary: Dictionary,
        *,
        n_tokens: int,
        seed: int,
        n_pairs: int,
        progress: Progress,
        world: Processes,
    ):
        self.world = world
        self.tokens = features.tokens
        self.downstream = downstream
        self.dictionary = dictionary
        self.present = features.codes.present(0, len(features.codes)).view(self.tokens.shape)
        self.occurring = self.tokens.unique().long()
        self.n_tokens = min(n_tokens, len(self.occurring))
        self.progress = progress
        self.n_pairs = n_pairs
        self.null_directions = NullDirections(features, dictionary, seed)
        self.done = 0
        """The pairs of a latent and a sequence that this process has ablated."""
        self.n_firing = 0
        """Those in which the latent fires."""

    def check_fires(self, scanned: Path) -> None:
        """Check that the latents fire where the scan says, over all processes. Raises ValueError if most do not: the
        model or the dictionary is then another."""
        n_firing, done = map(sum, zip(*self.world.all_gather_values((self.n_firing, self.done)), strict=True))
        if n_firing < done / 2:
            raise InterpError(
                f"in {done - n_firing} of {done} cases a latent does not fire where the scan says: "
                f"give the model and the dictionary of the scan {scanned}"
            )

    def table(self, latents: Int[Tensor, " latent"], sampled: Int[Tensor, "latent sequences"]) -> pd.DataFrame:
        """Return the table of some latents, each ablated on its own sequences."""
        device = to_model(self.downstream.module, latents).device
        sums = {name: torch.zeros(sampled.numel(), dtype=torch.float64, device=device) for name in _SUMS}
        likelier = torch.zeros(len(latents), self.downstream.readout.d_state, device=device)
        column = torch.full((self.dictionary.d_sae,), -1)
        column[latents] = torch.arange(len(latents))
        together = max(1, NUMBERS_AT_ONCE // (self.tokens.shape[1] * self.downstream.d_vocab))
        sequence_of_pair, pairs = sampled.flatten().sort()
        sequences = sequence_of_pair[sequence_of_pair >= 0].unique()
        batches = sequences.split(together) if len(sequences) else ()  # without sequences, split returns an empty part

        def ablate() -> None:
            """Add what the batches of this process give; a batch is the same for any number of processes."""
            for seqs in batches[self.world.rank :: self.world.count]:
                batch = AblationBatch(self.downstream, self.dictionary, self.tokens[seqs], self.present[seqs])
                first, stop = torch.searchsorted(sequence_of_pair, torch.stack([seqs[0], seqs[-1] + 1])).tolist()
                pairs_here = pairs[first:stop]
                pair_of = torch.full((len(latents), len(seqs)), -1)
                column_of = torch.searchsorted(seqs, sequence_of_pair[first:stop])
                pair_of[pairs_here // sampled.shape[1], column_of] = pairs_here
                self._add(batch, batch.firings(column, pair_of), sums, likelier, sampled.shape[1])
                self.done += len(pairs_here)
                self.progress(self.done, self.n_pairs, "ablations of a latent in a sequence")

        self.world.all_do(ablate)
        for values in (*sums.values(), likelier):
            self.world.sum_(values)
        sums_by_latent = {name: values.view(sampled.shape).cpu() for name, values in sums.items()}
        tokens = self._moved_tokens(likelier, sums_by_latent["normaliser"].sum(1), sums_by_latent["firings"].sum(1))
        table = _table(latents.numpy(), {name: values.numpy() for name, values in sums_by_latent.items()})
        return table.assign(**{name: pd.Series(list(values.numpy())) for name, values in tokens.items()})

    def _moved_tokens(
        self, states: Float[Tensor, "latent d_state"], normaliser: Float[Tensor, " latent"], n: Float[Tensor, " latent"]
    ) -> dict[str, Tensor]:
        """Return the tokens whose log-probabilities the latents raise and lower most, from sums over their n
        firings."""
        columns: dict[str, list[Tensor]] = {}
        for part in slices(len(n), max(1, NUMBERS_AT_ONCE // 4 // self.downstream.d_vocab)):
            moved = self.downstream.readout.differences(states[part]).cpu()[:, self.occurring]
            mean = (moved + normaliser[part, None].to(moved)) / n[part, None].to(moved)
            for largest, name in ((True, "likelier"), (False, "less_likely")):
                nats, strongest = mean.topk(self.n_tokens, dim=1, largest=largest)
                columns.setdefault(f"{name}_tokens", []).append(self.occurring[strongest])
                columns.setdefault(name, []).append(nats)
        return {name: torch.cat(parts) for name, parts in columns.items()}

    def _add(self, batch: AblationBatch, firings: Firings, sums: dict[str, Tensor], likelier: Tensor, n: int) -> None:
        """Add the firings of a batch to each pair's sums."""

        def add(name: str, pair: Tensor, values: Tensor) -> None:
            sums[name].index_add_(0, pair, values.double())

        if not len(firings.pair):
            return
        self.n_firing += len(firings.pair.unique())
        clean = batch.clean(firings.row.unique())
        counted = batch.counted.flatten()
        add("firings", firings.pair, torch.ones_like(firings.z))
        add("activation", firings.pair, firings.z)
        add("later", firings.pair.unique(), batch.later(firings).sum(1))
        add("targets", firings.pair, counted[firings.row])
        gradient = clean.gradient[clean.where[firings.row]]
        add("gradient", firings.pair, (batch.changes(firings) * gradient).sum(1))
        for prefix, changed in (
            ("", firings),
            ("null_", self.null_directions.with_other_latents(firings, self.tokens.shape[1])),
        ):
            for without in batch.ablate(changed):
                pair_of, row_of = without.firings.pair, without.firings.row
                for part, change in batch.compare(clean, row_of, without.states):
                    pair = pair_of[part]
                    add(f"{prefix}kl", pair, change.kl)
                    add(f"{prefix}loss", pair, change.loss * counted[row_of[part]])
                    if not prefix:
                        likelier.index_add_(0, pair // n, change.states.to(likelier), alpha=-1)
                        add("normaliser", pair, change.normaliser)
                if not prefix:
                    for part, change in batch.compare(clean, without.later_row, without.later_states):
                        add("later_loss", without.later_pair[part], change.loss)


def _table(latents: np.ndarray, sums: dict[str, Sums]) -> pd.DataFrame:
    """Make the table.
    sums: each [latent, sequence]."""
    fires = sums["firings"] > 0
    sums["total"] = sums["loss"] + sums["later_loss"]
    sums["beyond_null"] = sums["loss"] - sums["null_loss"]
    n, firings = fires.sum(1), sums["firings"].sum(1)
    table: dict[str, np.ndarray] = {"latent": latents, "n_sequences": n, "n_firings": firings.astype(int)}
    table["mean_activation"] = ratio(sums["activation"].sum(1), firings)
    for name, (above, below) in _MEANS.items():
        table[name] = ratio(sums[above].sum(1), sums[below].sum(1))
        squared = name in ("kl", "null_kl")
        table[f"{name}_low"], table[f"{name}_high"] = ratio_interval(sums[above], sums[below], fires, squared)
    return pd.DataFrame(table)


def ratio_interval(
    above: Sums, below: Sums, counts: Bool[np.ndarray, "latent sequence"], squared: bool
) -> tuple[Float64[np.ndarray, " latent"], Float64[np.ndarray, " latent"]]:
    """Return the 95 % interval of each latent's ratio of sums over the counted sequences, by Student's t of the
    jackknife. As tails are heavy, intervals from a few sequences cover less, above all those of a KL.

    squared: set it for a KL. A KL is not negative and grows as the square of the change, so its root is closer to a
    normal distribution.
    """

    def scaled(values: np.ndarray) -> np.ndarray:
        return np.sqrt(np.maximum(values, 0)) if squared else values

    n = np.maximum(counts.sum(1), 1)
    without = scaled(ratio(above.sum(1, keepdims=True) - above, below.sum(1, keepdims=True) - below))
    without = np.where(counts, without, 0)
    off = np.where(counts, without - (without.sum(1) / n)[:, None], 0)
    reach = scipy.special.stdtrit(n - 1, 0.975) * np.sqrt((n - 1) / n * (off**2).sum(1))  # NaN for one sequence
    middle = scaled(ratio(above.sum(1), below.sum(1)))
    low = middle - reach
    high = middle + reach
    return (np.maximum(low, 0) ** 2, high**2) if squared else (low, high)
