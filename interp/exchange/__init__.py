"""Give results to other tools: Neuronpedia, Delphi, viewers of attribution graphs, the Hugging Face hub.

What other tools have made is read where it belongs: dictionaries in `sae.formats`, language models in `models`,
attribution graphs in `effects.graph_files`, codes of any producer in `codes`, activations in `activations`.

A format to which `interp publish` writes a run is one more file here, or in a script of the user's own: a function with
`@results_format`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
