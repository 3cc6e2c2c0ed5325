"""The dictionaries that can be trained: every file of this folder is read, and each config in it is registered.

`topk` has those that fix the number of picks, `thresholds` those whose latents fire above a threshold and pay for it,
`matching_pursuit` the one that picks one latent after the other. A new architecture is one more file here, or a class
in a script of the user's own (`analyses/custom_architecture.py`); `sae_config` lists its methods. If it encodes in a
new way, it defines its encoder in the same file (`encoders`).
"""

from interp.runtime.registry import import_files

import_files(__name__, __path__)
