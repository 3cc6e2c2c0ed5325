"""The page of a run with its model behind it, served to this machine (`interp explore RUN`), and a text box for a
notebook (`interp.explore(run)`)."""

from interp.report.live.live_model import LiveModel as LiveModel
from interp.report.live.server import Explorer as Explorer
