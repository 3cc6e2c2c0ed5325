"""The formats in which dictionaries are stored, by interp and by other tools.

    stored_dictionary    what all formats hold: the tensors of a dictionary, its encoder and its origin
    native               interp's own: any dictionary, bit for bit
    saelens              SAELens's folders, read and written: what `SAE.save` writes if SAELens has the architecture
    sparsify             EleutherAI's sparsify, read only
    circuit_tracer       circuit-tracer's transcoders, read only: a file for each layer of a model
    dictionary_files     finds which of the first three a folder holds, and reads SAELens's releases

A new format is one more file here: a function that returns a `StoredDictionary`, or takes one. `file_tensors`, beside
this package, checks tensors and numbers as they are read.
"""
