"""The command `scan` gathers statistics of every latent of a dictionary on a store."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, Option

from interp.checks.errors import InterpError
from interp.cli.command_arguments import (
    OVERWRITE,
    check_writable_folder,
    hook_to_scan,
    load_named_model,
    load_named_sae,
)
from interp.cli.field_flags import FieldFlags
from interp.cli.part_flags import JOIN, PART, named_parts, refuse_beside
from interp.features.scan_config import ScanConfig
from interp.runtime.progress_bar import Bar
from interp.runtime.torchrun import is_first
from interp.storage.artifacts import find_artifact

if TYPE_CHECKING:
    from interp.activations import ActivationStore


def scan_command(
    sae: Annotated[
        str,
        Argument(help="the folder of an SAE (ours, SAELens's or sparsify's) or run, or SAELens's RELEASE:ID"),
    ],
    store: Annotated[str, Argument(help="an activation store, as harvest writes it, its address, or a run folder")],
    *,
    out: Annotated[str, Option(help="the folder of the feature store, or an address such as s3://bucket/features")],
    hook: Annotated[
        str | None, Option(help="(default: the one that the SAE was trained on, or the store's only one)")
    ] = None,
    model: Annotated[str | None, Option(help="the model that was harvested: folder, name, .gguf file")] = None,
    tokenizer: Annotated[Path | None, Option(help="the tokenizer folder (default: next to the tokens)")] = None,
    tokens: Annotated[Path | None, Option(help="the labelled tokens that were harvested")] = None,
    settings: Annotated[dict[str, Any], FieldFlags(lambda: [ScanConfig])],
    part: Annotated[str | None, PART] = None,
    join: Annotated[str | None, JOIN] = None,
    overwrite: Annotated[bool, OVERWRITE] = False,
) -> None:
    """SAE + store → feature store

    Statistics, examples and logit effects of every latent, as Parquet tables in OUT.
    --model adds logit effects and readable tokens, --tokens adds the labels that the text carries.
    A part encodes its rows of the store; --join reads the codes of all parts and does the rest.

    \b
        interp scan SAE STORE --part 3/16 --out parts/3
        interp scan SAE STORE --join 'parts/*' --model MODEL --out OUT
        torchrun --nproc-per-node 2 -m interp scan SAE STORE --model MODEL --out OUT"""
    check_writable_folder("--out", out, anywhere=True)
    own_part, parts = named_parts(part, join)
    if part:
        remedy = "a part has codes alone: give the rest where --join makes the tables"
        refuse_beside("--part", remedy, settings, model=model, tokenizer=tokenizer, tokens=tokens)
    from interp.features.scan_features import scan_features, scan_part
    from interp.pipeline.readers import open_any

    config = ScanConfig(**settings)
    with Bar("scan") as bar:
        acts = open_any(store, "activations")
        dictionary = load_named_sae(sae)
        hook_name = hook_to_scan(acts, hook, dictionary)
        if part is not None:
            scan_part(dictionary, acts, hook_name, out, part=own_part, overwrite=overwrite, progress=bar)
            return _print_once(f"part {part} in {out}")
        opened = load_named_model(model) if model else None
        labels, vocab = _text(acts, tokens, tokenizer)
        vocab = vocab or (opened.tokenizer.display() if opened and opened.tokenizer else None)
        if opened is not None and vocab is not None and len(vocab) > opened.d_vocab:
            raise InterpError(
                f"--model {model} has {opened.d_vocab} tokens, but the tokenizer has {len(vocab)}: name the model's "
                "own with --tokenizer"
            )
        features = scan_features(
            dictionary,
            acts,
            hook_name,
            out,
            model=opened,
            vocab=vocab,
            labels=labels,
            config=config,
            parts=parts,
            overwrite=overwrite,
            progress=bar,
        )
    _print_once(f"{features.d_sae:,} features in {out}")


def _print_once(line: str) -> None:
    if is_first():
        print(line)


def _text(store: "ActivationStore", tokens: Path | None, tokenizer: Path | None) -> tuple[Any, list[str] | None]:
    """Read labels and vocabulary. Raises ValueError if the store was not harvested from all of these tokens, and if the
    tokenizer did not make them."""
    import torch

    from interp.pipeline.readers import open_any
    from models.tokenizer import MIN_ENCODED_AGAIN, share_encoded_again

    file = find_artifact(tokens, "tokens").path if tokens else None
    labelled = open_any(file, "tokens") if file else None
    folder = tokenizer or (file.parent / "tokenizer" if file else None)
    spelt = open_any(folder, "tokenizer") if folder else None
    if labelled is not None and store.tokens is not None:
        labelled = labelled[: len(store.tokens)]
        if not torch.equal(labelled.tokens.int(), store.tokens):
            raise InterpError(f"--tokens {tokens} are not the tokens that {store.path} was harvested from: give those")
    if labelled is not None and spelt is not None and labelled.tokenizer not in ("", spelt.digest):
        raise InterpError(f"the tokenizer {folder} did not make --tokens {tokens}: name its own with --tokenizer")
    share = 1.0 if spelt is None or store.tokens is None else share_encoded_again(spelt, store.tokens)
    if share < MIN_ENCODED_AGAIN:
        raise InterpError(
            f"the tokenizer {folder} did not make the tokens of {store.path}: it gives the same ids for only "
            f"{share:.0%} of their text; name their own tokenizer with --tokenizer"
        )
    return None if labelled is None else labelled.labels, None if spelt is None else spelt.display()
