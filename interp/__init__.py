"""interp: a dictionary-learning workbench for language models.

Packages, from the ground up. A package imports only from those above it in this list. `models` uses `checks`,
`storage` and `runtime`; only `pipeline` and `cli` import `models`:

    checks        checks of input: limits of numbers and fields, ids, JSON, free memory; errors
    storage       files that are complete or absent, folders and their manifests
    display       HTML and colours that several packages share
    runtime       progress, processes, threads and memory; what is the same for any language model
    statistics    shares and means with their intervals, seeded hashes
    activations   hooks of any model, harvests, the store and its batches
    codes         sparse latents of any producer, in memory and on disk; what a dictionary is
    sae           dictionaries: architectures, kernels, training, formats
    evaluation    how much of the model a dictionary preserves, compared with baselines
    text          predicates: properties of a position in a text, with their rarity
    features      statistics and examples of every latent on a text: the scan, its tables and their store
    effects       ablation, steering and attribution of latents; attribution graphs
    verdict       the probability that a latent has one meaning, its senses, and a rule in words for each
    compare       the same features in other seeds, widths, models and texts
    figures       results as plotly figures
    report        the page of a run
    exchange      results in the formats of other tools
    autointerp    explanations written and judged by a language model of your choice
    pipeline      the stages of a run, their configuration and their folder
    cli           the command line

To extend interp, write one function or class, in the place named here or in your own script (`--import`, `plugins`).
The command line, the page and the help pick it up:

    an architecture              a class with `pick` and `trained_encoder`  `sae.architectures`
    a format of dictionaries     a function with `@dictionary_format`       `sae.formats`
    a format of results          a function with `@results_format`          `exchange`
    a stage of a run             a function with `@stage`                   `pipeline.stages`
    a source of text             a function with `@text_source`             `models.text_sources`
    a source of models           a function with `@model_source`            `models.pretrained`
    a measure of a latent        a function with `@measure`                 `verdict.measures`
    a kind of predicate          a call of `register_kind`                  `text.predicate_kinds`
    a null                       a call of `register_null`                  `compare.compared_dictionaries`
    a figure                     a function with `@figure`                  `figures`

Two things of the library itself need a few lines more: a command is a function of `cli` named in `cli.COMMAND_GROUPS`,
and the public name of an architecture or figure is in the stubs (`__init__.pyi`). A stage that must run before another
of the library has a place in `pipeline.stages.ORDER`.

`__init__.pyi` lists the public names and their modules. A module is loaded when one of its names is first used, so
importing the package is quick.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
