"""The main job as a run folder: its stages, its configuration, and the rules by which stages are run again."""

from importlib import import_module
from pkgutil import iter_modules

from interp.pipeline import stages

for _file in iter_modules(stages.__path__):  # each registers its stages, which run in `stages.ORDER`
    import_module(f"{stages.__name__}.{_file.name}")
