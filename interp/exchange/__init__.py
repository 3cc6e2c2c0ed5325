"""Formats of other tools: Neuronpedia, Delphi, the Hugging Face hub; and a language model that judges explanations."""

from interp.exchange.delphi import write_delphi
from interp.exchange.dictionary_formats import upload_to_hub, write_hub_folder
from interp.exchange.graph_formats import load_transcoders, write_graph_features
from interp.exchange.neuronpedia import write_neuronpedia

__all__ = ["load_transcoders", "upload_to_hub", "write_delphi", "write_graph_features", "write_hub_folder"]
__all__ += ["write_neuronpedia"]
