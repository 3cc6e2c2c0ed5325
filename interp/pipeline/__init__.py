"""The main job as a run folder: its stages, its configuration, and the rules by which stages are run again."""

from interp.pipeline import stages
from interp.runtime.registry import import_files

import_files(stages.__name__, stages.__path__)
