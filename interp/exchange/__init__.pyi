from .delphi import write_delphi as write_delphi
from .graph_features import write_graph_features as write_graph_features
from .hub import upload_to_hub as upload_to_hub
from .hub import write_hub_folder as write_hub_folder
from .neuronpedia import write_neuronpedia as write_neuronpedia
