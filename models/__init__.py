"""Language models to study and the text they learn from: corpus, tokenizer, transformer, training.

    from models import load_model
    model = load_model("gpt2")            # or a folder, a GGUF file, a model object: see `models.loading`

The public names are in `__init__.pyi`, each with its module, which is loaded when the name is first used: importing the
package does not load torch.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
