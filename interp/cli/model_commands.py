"""The commands on a language model: `tokenize` text, `harvest` activations, and the `quality` of dictionaries.

A model is a run folder, a Hugging Face name or folder, a .gguf file, or SOURCE:NAME of a registered source.
"""

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, Option

from interp.activations.harvest_options import RowConfig
from interp.checks.errors import InterpError
from interp.cli.command_arguments import (
    OVERWRITE,
    TABLES,
    check_writable_file,
    check_writable_folder,
    load_named_model,
    load_named_sae,
    write_table,
)
from interp.cli.field_flags import FieldFlags
from interp.cli.option_groups import HOW_IT_RUNS
from interp.runtime.progress_bar import Bar
from interp.runtime.torchrun import is_first

if TYPE_CHECKING:
    from torch import Tensor

    from models.tokens import LabelledTokens

MODEL = (
    "a run folder, a Hugging Face folder, a name on the hub, a .gguf file, or SOURCE:NAME with a source that "
    "`interp run --help` lists"
)
TOKENS = "labelled tokens, as tokenize or run writes them, or the run folder"
log = logging.getLogger(__name__)


def tokenize_command(
    texts: Annotated[
        list[str], Argument(help="text files or globs; .jsonl files with the text of each line under --field")
    ],
    *,
    model: Annotated[str, Option(help=MODEL)],
    out: Annotated[str, Option(help="the folder, or its address: OUT/tokens and OUT/tokenizer")],
    context: Annotated[int, Option(help="tokens per sequence")] = 128,
    field: Annotated[str, Option(help="the field of JSON lines that has the text")] = "text",
    max_characters: Annotated[int | None, Option(help="read only this many characters, from the start")] = None,
    overwrite: Annotated[bool, OVERWRITE] = False,
) -> None:
    """text → tokens of a model

    Tokenize text with a model's own tokenizer; repeated documents are kept once.
    The text may be larger than memory, compressed, or at an address such as s3://…. The command resumes after an
    interruption."""
    check_writable_folder("--out", out, anywhere=True)
    from interp.storage.folders import atomic_folder
    from models import load_tokenizer
    from models.corpus import CorpusConfig, source_of, stream_documents
    from models.streaming import tokenize_stream

    corpus = CorpusConfig(
        source=source_of(texts), paths=tuple(texts), characters=max_characters, field=field, val_fraction=0
    )
    made_of = {"kind": "tokens", "model": model, "context": context, "texts": texts, "field": field}
    made_of |= {"characters": max_characters}
    with Bar("tokenize") as bar:
        tokenizer = load_tokenizer(model)
        with atomic_folder(out, made_of, resumes=True, overwrite=overwrite) as new:
            tokens = tokenize_stream(stream_documents(corpus), tokenizer, context, new / "tokens", progress=bar)
            tokenizer.save(new / "tokenizer")
    print(f"{tokens['train']['tokens']:,} tokens in sequences of {context} in {out}/tokens")


def harvest_command(
    model: Annotated[str, Argument(help=MODEL)],
    tokens: Annotated[Path, Argument(help=TOKENS)],
    *,
    hook: Annotated[list[str], Option(help="a hook; may be repeated")],
    out: Annotated[str, Option(help="the folder of the store, or an address such as s3://bucket/store")],
    max_tokens: Annotated[int | None, Option(help="harvest only this many tokens, from the start", min=1)] = None,
    exclude: Annotated[
        list[str] | None, Option(help="a token id to leave out, or none; may be repeated (default: special tokens)")
    ] = None,
    settings: Annotated[dict[str, Any], FieldFlags(lambda: [RowConfig])],
    seed: Annotated[int, Option(help="seed of the order of the rows", rich_help_panel=HOW_IT_RUNS)] = 0,
    overwrite: Annotated[bool, OVERWRITE] = False,
) -> None:
    """model + tokens → activation store

    Run tokens through a model once and store the activations at one or more hooks, with rows shuffled."""
    check_writable_folder("--out", out, anywhere=True)
    from interp.activations.harvesting import harvest
    from interp.pipeline.readers import open_any

    with Bar("harvest") as bar:
        labelled = open_any(tokens, "tokens")
        opened = load_named_model(model)
        store = harvest(
            opened,
            _ids(labelled, max_tokens, tokens, opened, model),
            hook,
            out,
            exclude=opened.special_ids if exclude is None else _token_ids(exclude),
            seed=seed,
            overwrite=overwrite,
            progress=bar,
            **settings,
        )
    if is_first():
        print(f"{len(store):,} rows of {', '.join(f'{h} ({store.d(h)})' for h in store.hook_names)} in {out}")


def quality_command(
    sae: Annotated[list[str], Argument(help="folders of SAEs or runs, or SAELens's RELEASE:ID")],
    *,
    model: Annotated[str, Option(help=MODEL)],
    tokens: Annotated[Path, Option(help=TOKENS)],
    hook: Annotated[str | None, Option(help="the hook (default: the one that the SAE was trained on)")] = None,
    output_hook: Annotated[
        str | None, Option(help="the hook that a transcoder writes (default: the one it names)")
    ] = None,
    max_tokens: Annotated[int, Option(help="measure on this many tokens, from the start", min=1)] = 100_000,
    batch_size: Annotated[int, Option(help="sequences a forward")] = 16,
    out: Annotated[Path | None, Option(help="a .parquet or .csv file for the table")] = None,
    overwrite: Annotated[bool, OVERWRITE] = False,
) -> None:
    """SAE + model + tokens → how much it preserves

    Splice dictionaries into the model: L0, variance unexplained, and cross-entropy recovered (0 is zero ablation or
    unigrams, whichever is better)."""
    if out is not None:
        check_writable_file("--out", out, *TABLES, overwrite=overwrite)
    from interp.activations.hooks import trained_hook
    from interp.activations.model_passes import weights_digest
    from interp.evaluation.quality import quality_table
    from interp.pipeline.readers import open_any

    with Bar("quality") as bar:
        dictionaries: Any = {name: load_named_sae(name) for name in sae}
        hook = hook or trained_hook(dictionaries[sae[0]])
        if hook is None:
            raise InterpError(f"{sae[0]} does not record the hook that it was trained on: name it with --hook")
        labelled = open_any(tokens, "tokens")
        opened = load_named_model(model)
        weights = weights_digest(opened)
        for name, dictionary in dictionaries.items():
            if dictionary.metadata.get("model_weights", weights) != weights:
                log.warning("%s was trained on activations of another model than %s: it is measured there", name, model)
        table = quality_table(
            opened,
            hook,
            dictionaries,
            _ids(labelled, max_tokens, tokens, opened, model),
            batch_size=batch_size,
            exclude=opened.special_ids,
            output_hook=output_hook,
            progress=bar,
        )
    if out is not None:
        write_table(table, out)
    print(table.set_index("dictionary").T.to_string(float_format=lambda value: f"{value:.4g}"))


def _ids(labelled: "LabelledTokens", most: int | None, path: Path, model: Any, model_name: str) -> "Tensor":
    """Return the first tokens of a text. Raises ValueError if another tokenizer than the model's made them."""
    from models.tokenizer import MIN_ENCODED_AGAIN, share_encoded_again

    tokenizer = model.tokenizer
    if tokenizer is not None and labelled.tokenizer not in ("", tokenizer.digest):
        share = share_encoded_again(tokenizer, labelled.tokens)
        if share < MIN_ENCODED_AGAIN:
            raise InterpError(
                f"the tokenizer of {model_name} did not make the tokens of {path}: it gives the same ids for only "
                f"{share:.0%} of their text; `interp tokenize --model {model_name}` makes its own"
            )
    ids = labelled.tokens
    return ids if most is None else ids[: max(1, most // ids.shape[1])]


def _token_ids(texts: list[str]) -> tuple[int, ...]:
    if texts == ["none"]:
        return ()
    if wrong := [text for text in texts if not text.isdecimal()]:
        raise InterpError(f"--exclude {wrong[0]} must be a token id (a whole number), or none by itself")
    return tuple(map(int, texts))
