"""The stage `neurons`: the same as `features` for the model's own neurons, with which latents are compared."""

from pathlib import Path
from typing import Any

from interp.pipeline import timings
from interp.pipeline.costs import Cost, Sizes
from interp.pipeline.readers import reader_of
from interp.pipeline.run_folder import Run
from interp.pipeline.stages import LEFT_OUT, NOT_FOR_TRANSCODERS, stage
from interp.pipeline.stages.features import scan_cost, scan_dictionary
from interp.runtime.progress import Progress

NEURONS_AT_ONCE = 32
"""Number of a pretrained model's neurons, or coordinates, that count as firing per token, the strongest: half of the
gated ones are positive."""


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
    basis, hook_name = run.basis
    d = run.store.d(hook_name)
    are_neurons = basis == "neurons"
    k = None if are_neurons and run.config.model.is_trained else min(d, NEURONS_AT_ONCE)
    scan = scan_dictionary(run, NeuronDictionary(d, k, signed=not are_neurons), hook_name, folder, progress)
    return {**scan, "basis": basis}
