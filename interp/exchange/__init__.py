"""Formats of other tools: Neuronpedia, Delphi, the Hugging Face hub; and a language model that judges explanations."""

from interp.exchange.delphi import write_delphi
from interp.exchange.dictionary_formats import upload_to_hub, write_hub_folder
from interp.exchange.neuronpedia import write_neuronpedia

__all__ = ["upload_to_hub", "write_delphi", "write_hub_folder", "write_neuronpedia"]
