"""interp: a dictionary-learning workbench for language models.

Packages, from the ground up. Imports go down only; `models` stands on `storage` and `runtime`, and is known to
`pipeline` and `cli` alone:

    storage       files that are whole or not there, folders and their manifests, checks of input
    display       HTML and colours that several packages share
    runtime       progress, processes, threads and memory
    statistics    shares and means with their intervals, seeded hashes
    activations   hooks of any model, harvests, the store and its batches
    codes         sparse latents of any producer, in memory and on disk
    sae           dictionaries: architectures, kernels, training, formats
    evaluation    what a dictionary keeps of the model, beside baselines
    text          predicates: what is true at a position of a text, and how rare that is
    features      a scan of the codes of a text: tables, and their store
    effects       latents ablated, held, steered and attributed to
    verdict       has a latent one meaning, and which
    compare       the same features in other seeds, widths, models and texts
    figures       results as plotly figures
    report        the page of a run
    exchange      formats of other tools
    autointerp    explanations written and judged by a language model of the user's
    pipeline      the stages of a run, their configuration and their folder
    cli           the command line

What one adds is one function or class, here or in a script of one's own (`--import`, `plugins`); the command line, the
page and the help follow from it:

    an architecture              a class with `pick` and `trained`      `sae.architectures`
    a stage of a run             a function with `@stage`               `pipeline.stages`
    a source of text or models   a function with `@text_source` …       `models.sources`
    a measure of a latent        a function with `@measure`             `verdict.measures`
    a kind of predicate          a function with `@kind`                `text.kinds`
    a figure                     a function with `@figure`              `figures.figure`

The public names stand in `__init__.pyi`, each with the module that it comes from, which is loaded when the name is
first used: importing the package is quick.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
