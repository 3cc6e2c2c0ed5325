"""The formats in which dictionaries are stored, by interp and by other tools.

    stored_dictionary    what all formats hold: the tensors of a dictionary, its encoder and its origin
    dictionary_format    what a format is, and how it is registered
    native               interp's own: any dictionary, bit for bit
    saelens              SAELens's folders, read and written: what `SAE.save` writes if SAELens has the architecture;
                         and its releases
    sparsify             EleutherAI's sparsify, read only
    dictionary_files     finds which of these formats a folder has
    circuit_tracer       circuit-tracer's transcoders, read only: a folder with a file for each layer of a model

A new format is one more file here, or in a script of the user's own: a function with `@dictionary_format`.
`file_tensors`, beside this package, checks tensors and numbers as they are read.
"""

from interp.runtime.registry import import_files

import_files(__name__, __path__)
