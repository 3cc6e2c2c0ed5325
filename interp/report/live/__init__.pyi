from .graph_server import GraphServer as GraphServer
from .live_model import LiveModel as LiveModel
from .server import Explorer as Explorer
