"""Features and dictionaries in the formats of other tools: Neuronpedia, Delphi, Embedding Atlas, the hub.

In: a FeatureStore, a ranking, a run. Out: folders and files that those tools read as they are.
"""

from interp.exchange.dictionary_formats import upload_to_hub, write_hub_folder
from interp.exchange.feature_formats import write_delphi, write_embedding_atlas, write_neuronpedia

__all__ = ["upload_to_hub", "write_delphi", "write_embedding_atlas", "write_hub_folder", "write_neuronpedia"]
