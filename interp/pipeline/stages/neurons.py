"""The stage `neurons`: the same as `features` for the model's own neurons, with which latents are compared."""

from pathlib import Path
from typing import Any, Literal, NamedTuple

from interp.pipeline import timings
from interp.pipeline.costs import Cost, Sizes
from interp.pipeline.readers import reader_of
from interp.pipeline.run import Run
from interp.pipeline.sections import MLP_NEURONS
from interp.pipeline.stages import LEFT_OUT, NOT_FOR_TRANSCODERS, stage
from interp.pipeline.stages.features import scan_cost, scan_dictionary
from interp.runtime.progress import Progress

NEURONS_AT_ONCE = 32
"""Number of a pretrained model's neurons, or coordinates, that count as firing per token, the strongest: half of the
gated ones are positive."""


class Basis(NamedTuple):
    """The directions of the model itself, with whose codes latents are compared, and their hook."""

    name: Literal["neurons", "coordinates"]
    """The neurons of the MLP or, if the model has no hook for them, the coordinates at the dictionary's own hook."""
    hook_name: str


def basis_of(run: Run) -> Basis:
    """Return the basis with whose codes the latents of a run are compared."""
    *_, hook_name = run.results("activations")["d"]
    is_named = run.config.harvest.neuron_hook is not None
    is_mlp = is_named or hook_name != run.hook_name or hook_name.endswith(MLP_NEURONS)
    return Basis("neurons" if is_mlp else "coordinates", hook_name)


def _neurons_cost(sizes: Sizes) -> Cost:
    width = sizes.widths[sizes.hooks[-1]]
    if sizes.config.harvest.output_hook:
        return Cost()
    fire = width / 24 if sizes.config.model.is_trained else min(width, NEURONS_AT_ONCE)
    return scan_cost(sizes, width, fire, width=width) + Cost(seconds=timings.COMPARED_VALUE * sizes.rows * width)


@stage(
    version=9,
    inputs=("corpus", "model", "activations"),
    cost=_neurons_cost,
    reduced_by=("harvest.tokens",),
    other_sections=("harvest", "scan", "model"),
    opens={"neurons": (".", reader_of("features"))},
    summary=lambda r: f"{r['latents']:,} {r['basis']}, {r['dead']:,} dead, L0 {r['mean_l0']:.1f}",
)
def neurons(run: Run, folder: Path, progress: Progress) -> dict[str, Any]:
    """the same for every neuron of the MLP, for comparison, or for the coordinates if there is none; for a pretrained
    model only the strongest at each token"""
    from interp.evaluation.baselines import NeuronDictionary

    if run.output_hook is not None:
        return {LEFT_OUT: NOT_FOR_TRANSCODERS}
    basis, hook_name = basis_of(run)
    d = run.store.d(hook_name)
    are_neurons = basis == "neurons"
    k = None if are_neurons and run.config.model.is_trained else min(d, NEURONS_AT_ONCE)
    scan = scan_dictionary(run, NeuronDictionary(d, k, signed=not are_neurons), hook_name, folder, progress)
    return {**scan, "basis": basis}
