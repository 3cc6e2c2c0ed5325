"""Read and write formats of other tools: Neuronpedia, Delphi, circuit-tracer, scikit-learn, the Hugging Face hub."""

from interp.exchange.delphi import write_delphi as write_delphi
from interp.exchange.graph_formats import load_transcoders as load_transcoders
from interp.exchange.graph_formats import write_graph_features as write_graph_features
from interp.exchange.hub import upload_to_hub as upload_to_hub
from interp.exchange.hub import write_hub_folder as write_hub_folder
from interp.exchange.neuronpedia import write_neuronpedia as write_neuronpedia
