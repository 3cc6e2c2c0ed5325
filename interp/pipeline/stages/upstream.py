"""From text to activations: `corpus`, `model`, `activations`."""

import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from interp.files import Progress, digest_file
from interp.pipeline.config import RunConfig
from interp.pipeline.run_folder import Run
from interp.pipeline.stage import section, stage
from interp.pipeline.validation import at_least_1

if TYPE_CHECKING:
    from models.layers import TransformerConfig


@dataclass(frozen=True, kw_only=True)
class TokenizerConfig:
    kind: str = "bpe"
    """`bpe` (byte-level, trained on the corpus) or `characters`."""
    vocab_size: int = 2048

    def __post_init__(self) -> None:
        if self.kind not in ("bpe", "characters"):
            raise ValueError(f"kind={self.kind!r} must be 'bpe' or 'characters'")
        if not 1 <= self.vocab_size <= 1 << 22:
            raise ValueError(f"vocab_size={self.vocab_size} must be in 1..{1 << 22}")


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    preset: str = "one-layer"
    """A name in `models.layers.PRESETS`; the fields below change it where they are given."""
    n_ctx: int = 128
    n_layers: int | None = None
    d_model: int | None = None
    n_heads: int | None = None
    d_mlp: int | None = None
    act_fn: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        given = [name for name in ("n_layers", "d_model", "n_heads", "d_mlp") if getattr(self, name) is not None]
        at_least_1(self, "n_ctx", *given)

    def transformer(self, d_vocab: int) -> "TransformerConfig":
        from models.layers import TransformerConfig

        given = {k: v for k, v in asdict(self).items() if v is not None and k != "preset"}
        return TransformerConfig.preset(self.preset, d_vocab=d_vocab, **given)


@dataclass(frozen=True, kw_only=True)
class HarvestConfig:
    hook_name: str = "blocks.0.hook_resid_post"
    """Where the dictionary is learnt."""
    neuron_hook: str | None = None
    """Where the neurons are that its latents are compared with. None: the MLP of the block that `hook_name` names."""
    tokens: int = 1_200_000
    """Tokens of the training split to harvest, from its start; all of them if there are fewer."""
    batch_size: int = 64
    """Sequences a forward."""
    dtype: str = "bfloat16"
    max_norm: float | None = None
    """Rows whose norm is above this many times the median are excluded."""
    seed: int = 0

    def __post_init__(self) -> None:
        at_least_1(self, "tokens", "batch_size")

    @property
    def options(self) -> dict[str, Any]:
        """Of `interp.harvest`; a harvest for a null repeats them."""
        return {"dtype": self.dtype, "batch_size": self.batch_size, "max_norm": self.max_norm, "seed": self.seed}

    @property
    def neurons(self) -> str:
        block = re.match(r"blocks\.\d+\.", self.hook_name)
        return self.neuron_hook or (f"{block.group()}mlp.hook_post" if block else self.hook_name)


def _text_files(config: RunConfig) -> dict[str, Any]:
    """So that a user's text that changed is read again."""
    from models.own_text import matching_files

    named = {path for each in config.corpus.paths for path in matching_files(each)}
    return {"files": {str(path): digest_file(path) for path in sorted(named) if path.is_file()}}


@stage(
    own={"corpus": section("models.corpus:CorpusConfig", characters=8_000_000), "tokenizer": TokenizerConfig},
    shared=("model",),
    outside=_text_files,
    opens={
        "tokenizer": ("tokenizer", "models.tokenizer:Tokenizer.load"),
        "train_tokens": ("train", "models.corpus:LabelledTokens.load"),
        "val_tokens": ("val", "models.corpus:LabelledTokens.load"),
    },
    summary="{train[tokens]:,} + {val[tokens]:,} tokens, vocabulary {vocab_size}",
)
def corpus(run: Run, folder: Path, progress: Progress) -> dict[str, Any]:
    """labelled text, split into training and validation; a tokenizer trained on it"""
    from models.corpus import load_documents, split_documents, tokenize
    from models.tokenizer import Tokenizer

    config = run.config
    progress(0, 4, "reading documents")
    split = split_documents(load_documents(config.corpus), config.corpus.val_fraction, config.corpus.seed)
    progress(1, 4, "training the tokenizer")
    texts = (document.text for document in split.train)
    if config.tokenizer.kind == "bpe":
        tokenizer = Tokenizer.train_bpe(texts, config.tokenizer.vocab_size)
    else:
        tokenizer = Tokenizer.train_characters(texts)
    tokenizer.save(folder / "tokenizer")
    progress(2, 4, "tokenizing")
    train = tokenize(split.train, tokenizer, config.model.n_ctx, deduplicate=False)
    progress(3, 4, "tokenizing")
    val = tokenize(split.val, tokenizer, config.model.n_ctx, deduplicate=False, labels=train.label_names)
    results: dict[str, Any] = {"vocab_size": tokenizer.vocab_size}
    for name, documents, tokens in (("train", split.train, train), ("val", split.val, val)):
        tokens.save(folder / name)
        results[name] = {"documents": len(documents), "tokens": tokens.tokens.numel(), "characters": tokens.characters}
    return results


@stage(
    inputs=("corpus",),
    own={"model": ModelConfig, "training": section("models.recipe:TrainingConfig", tokens=3_500_000)},
    opens={"model": (".", "models.transformer:Transformer.load")},
    summary="validation {val_loss:.3f} nats a token ({bits_per_character:.3f} bits a character); "
    "unigram {unigram_cross_entropy:.3f}, bigram {bigram_cross_entropy:.3f}",
)
def model(run: Run, folder: Path, progress: Progress) -> dict[str, Any]:
    """a transformer trained on the corpus, measured against the corpus's own unigrams and bigrams"""
    from models.training import train_model
    from models.transformer import Transformer

    results = train_model(
        Transformer(run.config.model.transformer(run.tokenizer.vocab_size)),
        run.train_tokens.tokens,
        run.val_tokens.tokens,
        run.config.training,
        folder,
        tokenizer=run.tokenizer,
        val_characters=run.val_tokens.characters,
        progress=progress,
    )
    return asdict(results)


@stage(
    inputs=("corpus", "model"),
    own={"harvest": HarvestConfig},
    opens={"store": ("store", "interp.activations:ActivationStore.open")},
    summary=lambda r: (
        f"{r['rows']:,} rows, {r['bytes_per_value']:.3f} bytes a value: "
        + ", ".join(f"{name} ({d})" for name, d in r["d"].items())
    ),
)
def activations(run: Run, folder: Path, progress: Progress) -> dict[str, Any]:
    """the activations of the training text at the dictionary's hook and the neurons' one, rows shuffled"""
    from interp.harvest import harvest

    config = run.config.harvest
    store = harvest(
        run.model,
        run.harvested.tokens,
        list(dict.fromkeys((config.hook_name, config.neurons))),
        folder / "store",
        exclude=(run.tokenizer.bos_id,),
        progress=progress,
        **config.options,
    )
    size = sum(file.stat().st_size for file in (folder / "store").iterdir())
    widths = {name: store.d(name) for name in store.hook_names}
    per_value = size / len(store) / sum(widths.values())
    return {"rows": len(store), "excluded": store.n_excluded, "d": widths, "bytes_per_value": per_value}
