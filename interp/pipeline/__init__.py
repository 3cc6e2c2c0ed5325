"""The main job as a run folder: its stages, its configuration, and what makes a stage run again or not."""

# Each file registers its stages. Their order is `stages.ORDER`, whichever file is read first.
from interp.pipeline.stages import findings as findings
from interp.pipeline.stages import latents as latents
from interp.pipeline.stages import upstream as upstream
