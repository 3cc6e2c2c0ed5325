"""Features and dictionaries in the formats of other tools: Neuronpedia, Delphi, Embedding Atlas, the hub.

In: a FeatureStore, a ranking, a run. Out: folders and files that those tools read as they are.
"""

from interp.exchange.delphi import write_delphi
from interp.exchange.embedding_atlas import write_embedding_atlas
from interp.exchange.hub import upload_to_hub, write_hub_folder
from interp.exchange.neuronpedia import write_neuronpedia

__all__ = ["upload_to_hub", "write_delphi", "write_embedding_atlas", "write_hub_folder", "write_neuronpedia"]
