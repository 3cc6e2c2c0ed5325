"""The main job as a run folder: its stages, its configuration, and what makes a stage run again or not."""

# All before the configuration is made of their sections, and in their order.
from interp.pipeline.stages import upstream as upstream  # isort: skip
from interp.pipeline.stages import latents as latents  # isort: skip
from interp.pipeline.stages import findings as findings  # isort: skip
