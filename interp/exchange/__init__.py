"""Features and dictionaries in the formats of other tools: Neuronpedia, Embedding Atlas, the Hugging Face hub.

In: a FeatureStore, a ranking, a run. Out: folders and files that those tools read as they are.
"""

from interp.exchange.embedding_atlas import write_embedding_atlas
from interp.exchange.hub import upload_to_hub, write_hub_folder
from interp.exchange.neuronpedia import write_neuronpedia

__all__ = ["upload_to_hub", "write_embedding_atlas", "write_hub_folder", "write_neuronpedia"]
