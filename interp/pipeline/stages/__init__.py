"""The stages of a run; each reads what those before it left, and fills a folder of its own.

corpus → model → activations → sae → features, neurons → effects, quality, concepts, nulls, ranking, words, (wider)
→ report
"""

from interp.pipeline.stages import upstream  # isort: skip  the order of these lines is that of the stages
from interp.pipeline.stages import latents  # isort: skip
from interp.pipeline.stages import findings  # isort: skip
from interp.pipeline.stages import closing  # isort: skip

__all__ = ["closing", "findings", "latents", "upstream"]
