"""Language models to study and the text they learn from: corpus, tokenizer, transformer, training.

from models import load_model
model = load_model("gpt2")            # or a folder, a GGUF file, a model object: see `models.loading`

The public names stand in `__init__.pyi`, each with the module that it comes from, which is loaded when the name is
first used: importing the package loads no torch.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
