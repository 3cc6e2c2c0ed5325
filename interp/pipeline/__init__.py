"""The main job as a run folder: its stages, its configuration, and the rules by which stages are run again."""

# Each file registers its stages. Their order is `stages.ORDER`, whichever file is read first.
from interp.pipeline.stages import findings as findings
from interp.pipeline.stages import latents as latents
from interp.pipeline.stages import upstream as upstream
