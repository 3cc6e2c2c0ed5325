"""Any language model: `tokenize` text for it, `harvest` its activations, the `quality` of dictionaries, `nulls`.

A model is a run folder, a Hugging Face name or folder, a .gguf file, or SOURCE:NAME of a registered source.
"""

from pathlib import Path
from typing import Annotated, Any, Literal

from interp.cli.console import Bar, is_first
from interp.cli.paths import TABLES, as_written, check_writable, only_hook, open_features, opened_model, write_table
from models.pretrained import MODEL_SOURCES

MODEL = (
    "a run folder or one of Hugging Face, a name on the hub, a .gguf file, or SOURCE:NAME; "
    f"the sources are {', '.join(MODEL_SOURCES)}"
)
TOKENS = "labelled tokens, as tokenize or run writes them"


def tokenize_command(
    texts: Annotated[tuple[str, ...], "text files or globs; .jsonl files with the text of each line under --field"],
    *,
    model: Annotated[str, MODEL],
    out: Annotated[Path, "the folder: OUT/tokens and OUT/tokenizer"],
    context: Annotated[int, "tokens of a sequence"] = 128,
    field: Annotated[str, "of JSON lines"] = "text",
    max_characters: Annotated[int | None, "read only so many, from the start"] = None,
) -> None:
    """text → tokens of a model

    Read text with a model's own tokenizer; documents that repeat one another are taken once."""
    from models import load_tokenizer, tokenize
    from models.corpus import CorpusConfig, load_documents, source_of

    check_writable("--out", out)
    tokenizer = load_tokenizer(model)
    corpus = CorpusConfig(
        source=source_of(texts), paths=tuple(texts), characters=max_characters, field=field, val_fraction=0
    )
    documents = load_documents(corpus)
    with Bar("tokenize") as bar:
        tokens = tokenize(documents, tokenizer, context, progress=bar)
    tokenizer.save(out / "tokenizer")
    tokens.save(out / "tokens")
    print(f"{tokens.tokens.numel():,} tokens in sequences of {context} in {out / 'tokens'}")


def harvest_command(
    model: Annotated[str, MODEL],
    tokens: Annotated[Path, TOKENS],
    *,
    hook: Annotated[list[str], "may be given several times"],
    out: Annotated[Path, "the folder of the store"],
    max_tokens: Annotated[int | None, "harvest only so many tokens, from the start"] = None,
    dtype: Literal["bfloat16", "float16", "float32"] = "bfloat16",
    batch_size: Annotated[int, "sequences a forward"] = 64,
    exclude: Annotated[tuple[int, ...] | None, "token ids to leave out (default: the special tokens)"] = None,
    exclude_positions: Annotated[tuple[int, ...], "positions of a sequence to leave out"] = (),
    max_norm: Annotated[str, "leave out rows above so many median norms; auto: attention sinks; none"] = "auto",
    seed: int = 0,
) -> None:
    """model + tokens → activation store

    Run tokens through a model and keep the activations at one or more hooks, rows shuffled, in one forward pass."""
    from interp.activations.harvesting import harvest

    ids = _ids(tokens, max_tokens)
    opened = opened_model(model)
    options: Any = {"dtype": dtype, "batch_size": batch_size, "max_norm": _limit(max_norm), "seed": seed}
    options |= {"exclude": opened.special_ids if exclude is None else tuple(exclude)}
    with Bar("harvest") as bar:
        store = harvest(opened, ids, hook, out, exclude_positions=exclude_positions, progress=bar, **options)
    if is_first():
        print(f"{len(store):,} rows of {', '.join(f'{h} ({store.d(h)})' for h in store.hook_names)} in {out}")


def quality_command(
    sae: Annotated[tuple[str, ...], "folders of SAEs, or a SAELens release"],
    *,
    model: Annotated[str, MODEL],
    tokens: Annotated[Path, TOKENS],
    hook: Annotated[str | None, "(default: the one that the SAE was trained on)"] = None,
    sae_id: Annotated[str | None, "which SAE of a release"] = None,
    max_tokens: Annotated[int, "measure on so many tokens, from the start"] = 100_000,
    batch_size: Annotated[int, "sequences a forward"] = 16,
    out: Annotated[Path | None, "a .parquet or .csv file for the table"] = None,
) -> None:
    """SAE + model + tokens → how much is kept

    Splice dictionaries into the model: L0, variance unexplained, cross-entropy recovered, where 0 is zero
    ablation or unigrams, whichever is better."""
    from interp.activations.hooks import own_hook
    from interp.evaluation.quality import quality_table
    from interp.sae import load_sae

    if out is not None:
        check_writable("--out", out, *TABLES)
    dictionaries: Any = {place: load_sae(place, sae_id) for place in sae}
    hook = hook or own_hook(dictionaries[sae[0]])
    if hook is None:
        raise ValueError(f"{sae[0]} does not say which hook it was trained on: name it with --hook")
    ids, opened = _ids(tokens, max_tokens), opened_model(model)
    with Bar("quality") as bar:
        given: Any = {"batch_size": batch_size, "exclude": opened.special_ids, "progress": bar}
        table = quality_table(dictionaries, opened, ids, hook, **given)
    if out is not None:
        write_table(table, out)
    print(table.set_index("dictionary").T.to_string(float_format=lambda value: f"{value:.4g}"))


def nulls_command(
    features: Annotated[Path, "the feature store of a dictionary, as scan writes it"],
    store: Annotated[Path, "the activation store that was scanned"],
    *,
    sae: Annotated[str, "the folder of that dictionary"],
    model: Annotated[str, MODEL],
    out: Annotated[Path, "the folder of the tables"],
    neurons: Annotated[Path | None, "a scan of the MLP's neurons on the same tokens (`interp scan neurons`)"] = None,
    hook: Annotated[str | None, "(default: the store's only one)"] = None,
    tokens: Annotated[int, "on which all are judged"] = 300_000,
    sae_tokens: Annotated[int | None, "on which each is trained (default: as many as the dictionary had)"] = None,
    latents: Annotated[int, "judged of each dictionary"] = 384,
    seed: int = 0,
) -> None:
    """features + store + model → the same verdicts on dictionaries that found nothing

    A twin seed, frozen decoders and encoder, the model shuffled and untrained and, where they were scanned, neurons."""
    from interp.activations import ActivationStore
    from interp.compare.null_dictionaries import NullsConfig, compare_with_nulls
    from interp.pipeline.stages.findings import beside_nulls, by_dictionary
    from interp.sae import load_sae

    settings = NullsConfig(tokens=tokens, sae_tokens=sae_tokens, latents=latents, seed=seed)
    acts = ActivationStore.open(store)
    scans = open_features(features), None if neurons is None else open_features(neurons)
    with Bar("nulls") as bar:
        options: Any = {"settings": settings, "progress": bar}
        of_model = acts, only_hook(acts, hook), opened_model(model), load_sae(sae).config
        nulls = compare_with_nulls(scans[0], scans[1], *of_model, out, **options)
    print(beside_nulls({"shares": by_dictionary(nulls.shares)}))


def _ids(tokens: Path, most: int | None) -> Any:
    from models.tokens import LabelledTokens

    ids = LabelledTokens.load(as_written(tokens)).tokens
    if most is not None and most < 1:
        raise ValueError(f"--max-tokens {most} must be at least 1; leave it out to take all")
    return ids if most is None else ids[: max(1, most // ids.shape[1])]


def _limit(text: str) -> float | str | None:
    if text in ("auto", "none"):
        return None if text == "none" else text
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"--max-norm {text} must be auto, none or a number") from None
