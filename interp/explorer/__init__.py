"""A run's page with its model behind it, served to this machine: `interp explore RUN`; and in a
notebook, `interp.explore(run)`."""

from interp.explorer.live_model import LiveModel as LiveModel
from interp.explorer.server import Explorer as Explorer
