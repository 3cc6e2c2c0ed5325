"""Which features does a small language model use, and which of them have one meaning?

    python -m analyses.extract_features --out runs/extract
    python -m analyses.extract_features --text 'mybooks/*.txt' --hook blocks.1.hook_resid_post --preset small

This is the main job, written with the library's functions so that you can change each step: text → tokens → transformer
→ activations → sparse autoencoder → feature statistics → ranking → figures and page. It writes `results.json`, three
figures and `page/index.html`. Every step resumes: after an interruption, run the same command again.
"""

import argparse
import json
from pathlib import Path

import pandas as pd

from interp import TopKConfig, figures, harvest, rank_features, scan_features, train_sae, write_report
from models.corpus import CorpusConfig, load_documents, split_documents
from models.tokenizer import Tokenizer
from models.tokenizing import tokenize
from models.tokens import LabelledTokens
from models.training import TrainingResult, train_model
from models.training_recipe import TrainingConfig
from models.transformer import Transformer, TransformerConfig


def main(arguments: list[str] | None = None) -> Path:
    options = parse(arguments)
    out: Path = options.out
    out.mkdir(parents=True, exist_ok=True)
    tokenizer, train, val = read_text(options)
    model, trained = make_model(options, tokenizer, train, val)

    store = harvest(model, train.tokens, [options.hook], out / "store", exclude=(tokenizer.bos_id,), seed=options.seed)
    config = TopKConfig(d_sae=options.d_sae, k=options.k, tokens=options.sae_tokens, seed=options.seed)
    sae = train_sae(store, options.hook, config, out=out / "sae")
    print(f"dictionary: {sae.config.d_sae:,} latents on {len(store):,} rows of {store.d(options.hook)}")

    features = scan_features(
        sae, store, options.hook, out / "features", model=model, vocab=tokenizer.display(), labels=train.labels
    )
    ranking = rank_features(features, seed=options.seed)
    print(ranking.verdict.value_counts().to_string())

    save_figures(features.table(), ranking, out)
    page = write_report(features, out / "page", ranking=ranking)
    top = ranking.head(10)[["latent", "monosemanticity", "explanation", "explanation_f1"]]
    results = {
        "seed": options.seed,
        "val_loss": trained.val_loss,
        "bigram_cross_entropy": trained.bigram_cross_entropy,
        "verdicts": ranking.verdict.value_counts().to_dict(),
        "top": top.to_dict(orient="records"),
    }
    (out / "results.json").write_text(json.dumps(results, indent=1))
    print(f"page: {page}")
    return page


def read_text(options: argparse.Namespace) -> tuple[Tokenizer, LabelledTokens, LabelledTokens]:
    """Return a tokenizer for the text, and the tokens for training and for validation."""
    source = "files" if options.text else "mixture"
    corpus = CorpusConfig(source=source, paths=tuple(options.text or ()), characters=options.characters)
    split = split_documents(load_documents(corpus), corpus.val_fraction, corpus.seed)
    tokenizer = Tokenizer.train_bpe((document.text for document in split.train), options.vocab_size)
    train = tokenize(split.train, tokenizer, options.context, deduplicate=False)
    val = tokenize(split.val, tokenizer, options.context, deduplicate=False, labels=train.label_names)
    print(f"text: {train.tokens.numel():,} training and {val.tokens.numel():,} validation tokens")
    return tokenizer, train, val


def make_model(
    options: argparse.Namespace, tokenizer: Tokenizer, train: LabelledTokens, val: LabelledTokens
) -> tuple[Transformer, TrainingResult]:
    sizes = dict(d_vocab=tokenizer.vocab_size, n_ctx=options.context, seed=options.seed)
    model = Transformer(TransformerConfig.preset(options.preset, **sizes))
    training = TrainingConfig(tokens=options.model_tokens, seed=options.seed)
    trained = train_model(model, train.tokens, val.tokens, training, options.out / "model", tokenizer=tokenizer)
    print(f"model: {trained.val_loss:.3f} nats a token; bigram {trained.bigram_cross_entropy:.3f}")
    return model, trained


def save_figures(features: pd.DataFrame, ranking: pd.DataFrame, out: Path) -> None:
    for name, figure in (
        ("density", figures.density_histogram(features)),
        ("explanations", figures.score_distributions(ranking)),
        ("verdicts", figures.verdicts_by_density(ranking)),
    ):
        figures.save(figure, out / f"{name}.html")


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", nargs="*", help="your own UTF-8 files or globs (default: the labelled mixture)")
    parser.add_argument("--characters", type=int, default=4_000_000)
    parser.add_argument("--vocab-size", type=int, default=2048)
    parser.add_argument("--context", type=int, default=128)
    parser.add_argument("--preset", default="one-layer")
    parser.add_argument("--hook", default="blocks.0.mlp.hook_post")
    parser.add_argument("--model-tokens", type=int, default=1_500_000)
    parser.add_argument("--sae-tokens", type=int, default=1_500_000)
    parser.add_argument("--d-sae", type=int, default=2048)
    parser.add_argument("--k", type=int, default=32)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/extract"))
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
