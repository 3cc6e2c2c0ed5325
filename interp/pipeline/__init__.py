"""The main job as a run folder: configuration, stages, and what makes a stage run again or not."""
