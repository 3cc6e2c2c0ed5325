"""Serve pages that ask a live model, to this machine only (`interp explore RUN`, `interp graph … --serve`), and show a
text box in a notebook (`interp.explore(run)`)."""

from interp.report.live.graph_server import GraphServer as GraphServer
from interp.report.live.live_model import LiveModel as LiveModel
from interp.report.live.server import Explorer as Explorer
