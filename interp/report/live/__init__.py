"""Pages that ask a live model, served to this machine only (`interp explore RUN`, `interp graph … --serve`), and a
text box for a notebook (`interp.explore(run)`)."""

from interp.report.live.graph_server import GraphServer as GraphServer
from interp.report.live.live_model import LiveModel as LiveModel
from interp.report.live.server import Explorer as Explorer
