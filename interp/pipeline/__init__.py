"""The main job as a run folder: its stages, its configuration, and what makes a stage run again or not."""

from interp.pipeline import stages  # every stage is known before the configuration is made of their sections

__all__ = ["stages"]
