"""Checks of input, each of which raises an InterpError of one line, with the value and the remedy. Those that a caller
may want to tell apart have classes of their own (`errors`). pydantic checks values by their types; `limits.first_fault`
writes its message on one line. The checks are made:

    a file of ours       its JSON against a TypedDict (`json_values`); its bytes against the checksums in its manifest
                         (`storage.manifests.verify`, `activations.shards`)
    a foreign file       tensors and fields as they are read (`sae.file_tensors`)
    a user's settings    names of fields where text becomes a config dataclass (`config_fields`); types and limits in
                         the types of the fields, when the dataclass is made, so that they hold in Python too (`limits`)
    arguments            at the start of the public function that takes them (`limits`, `arguments`), and memory before
                         it is allocated (`free_memory`)
    inputs that belong together      `features.scan_checks`, `activations.harvesting.check_harvested`
    paths of a command   before libraries that take seconds are imported (`cli.command_arguments`)

Nothing here imports torch before it is used.
"""
