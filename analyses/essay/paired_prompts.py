"""What have language models learned? Paired prompts show the odds of the text, and balanced text takes them away.

    python -m analyses.essay.paired_prompts             # four seeds, two models each
    python -m analyses.essay.paired_prompts --quick     # for the tests

Pearce 2021 (What Have Language Models Learned?, PAIR) compares a model's words for two prompts that differ in one. Here
the truth is known: a small transformer reads biographies in which nouns go with "he" and "she" at planted odds (each
seed assigns them again), mixed with Shakespeare. Corpus odds are counted on all of that text: which of the two comes
first within twelve words of the noun. Eight nouns occur only in the plays, so their odds are Shakespeare's own.

    log odds = log P(" he" | "The baker said that") − log P(" she" | the same)     mean over several texts before it
    gap = mean over nouns |log odds − log odds of "Somebody said that"|

Claims
26a  Spearman's rank correlation of the log odds after "The … said that" with the corpus odds is at least 0.6.
26b  The same holds for pairs of a prompt form and a noun that never occurred together in training.
26c  After training on the text and its pronoun-swapped twin, for as many tokens, the gap is at least 80 % smaller.
26d  What that costs in validation loss on the original text; measured, no bar.

The verdicts go by the mean over seeds. Chosen on short runs of a seed that is not measured: rate, length of the context
(at 64 tokens the model had learned the templates but no noun after 600 000) and the share of plays.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import scipy.stats

from analyses.essay import figures
from analyses.essay.paired_prompts_models import N_NOUNS, PLAY_NOUNS, SUBJECTS, befores, log_odds, shuffled, written
from analyses.essay.texts import biographies as bios
from analyses.record import Claim, Interval, Record, interval, options
from models.documents import Document
from models.evaluation import evaluate_loss
from models.tokenizer import Tokenizer
from models.tokenizing import tokenize
from models.training import train_model
from models.training_recipe import TrainingConfig
from models.transformer import Transformer, TransformerConfig

ARMS = ("as written", "balanced")


@dataclass(frozen=True)
class Setting:
    seeds: tuple[int, ...] = (0, 1, 2, 3)
    biographies: int = 24_000
    play_characters: int = 600_000
    vocab: int = 1024
    d_model: int = 64
    n_layers: int = 2
    n_heads: int = 4
    n_ctx: int = 32
    tokens: int = 800_000
    batch_size: int = 16
    lr: float = 6e-3
    befores: int = 16
    """Texts before each prompt, over which its log odds are averaged."""


QUICK = Setting(seeds=(0, 1), biographies=400, play_characters=12_000, vocab=400, d_model=16, tokens=4_000, befores=2)


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    o = options(__doc__, "paired_prompts", arguments)
    setting = QUICK if o.quick else Setting()
    record = Record(o.out, setting, svg=not o.quick)
    runs = [
        {
            arm: record.piece(f"seed-{seed}-{arm}".replace(" ", "-"), partial(run, record, setting, seed, arm))
            for arm in ARMS
        }
        for seed in setting.seeds
    ]
    tables = {f"seed {seed}": noun_table(pair, seed) for seed, pair in zip(setting.seeds, runs, strict=True)}
    measures = [measure(table, pair) for table, pair in zip(tables.values(), runs, strict=True)]
    shown = {
        "paired_prompts": figures.paired_odds(tables),
        "paired_prompts_balance": figures.odds_dumbbell(next(iter(tables.values()))),
    }
    values = {"per_seed": measures, "nouns": next(iter(tables.values())).round(3).to_dict("records")}
    return record.finish(claims(measures), shown, values)


def run(record: Record, setting: Setting, seed: int, arm: str) -> dict[str, Any]:
    """Train one model and ask it all prompts."""
    odds = bios.plant_odds(seed)
    text = written(setting.biographies, setting.play_characters, seed, odds)
    tokenizer = Tokenizer.train_bpe((d.text for d in text.train), setting.vocab)
    balanced = [Document(bios.swap_pronouns(d.text), (), d.source, d.name) for d in text.train]
    documents = text.train if arm == ARMS[0] else [*text.train, *balanced]
    pack = partial(tokenize, tokenizer=tokenizer, n_ctx=setting.n_ctx, deduplicate=False, labels=())
    train, val_bios, val_plays = (
        pack(d).tokens for d in (shuffled(documents, seed), text.val_biographies, text.val_plays)
    )
    sizes = dict(n_layers=setting.n_layers, d_model=setting.d_model, n_heads=setting.n_heads, n_ctx=setting.n_ctx)
    config = TransformerConfig(**sizes, d_mlp=4 * setting.d_model, d_vocab=tokenizer.vocab_size, seed=seed)
    recipe = TrainingConfig(tokens=setting.tokens, batch_size=setting.batch_size, lr=setting.lr, seed=seed)
    model = Transformer(config)
    train_model(model, train, val_bios, recipe, record.out / "work" / f"seed-{seed}" / arm.replace(" ", "-"))
    ask = partial(log_odds, model, tokenizer, befores(tokenizer, text.val_biographies, setting.befores, setting.n_ctx))
    counts = bios.pronoun_counts((d.text for d in text.train), (*SUBJECTS, *bios.VERBS))
    return {
        "log_odds": np.stack([ask([bios.prompt(form, s) for s in SUBJECTS]) for form in bios.PROMPT_FORMS], 1),
        "verb_log_odds": ask([bios.prompt(bios.PROMPT_FORMS[0], bios.SOMEBODY, verb) for verb in bios.VERBS]),
        "counts": np.array(list(counts.values())),
        "withheld": np.array([odds.withheld.get(subject, -1) for subject in SUBJECTS]),
        "loss_biographies": evaluate_loss(model, val_bios),
        "loss_plays": evaluate_loss(model, val_plays),
    }


def noun_table(pair: Mapping[str, Mapping[str, Any]], seed: int) -> pd.DataFrame:
    """Return one row per noun: its counts, corpus log odds, and both models' after the first prompt form; `label` marks
    the nouns furthest from what the corpus says."""
    before, after = (pair[arm] for arm in ARMS)
    he, she = before["counts"][:N_NOUNS].T
    table = pd.DataFrame({"noun": SUBJECTS[:N_NOUNS], "he": he, "she": she, "corpus": corpus_log_odds(he, she)})
    table["withheld"] = before["withheld"][:N_NOUNS]
    table["only_plays"] = [noun in PLAY_NOUNS for noun in table["noun"]]
    for name, one in (("model", before), ("balanced", after)):
        table[name], table[f"{name}_second"] = one["log_odds"][:N_NOUNS].T
    distance = (table["model"] - table["corpus"]).abs()
    table["label"] = distance.rank(ascending=False) <= 6
    return table


def corpus_log_odds(he: np.ndarray, she: np.ndarray) -> np.ndarray:
    """Return the log odds, with half a count added to both, so that a noun seen with only one has odds too (Haldane
    1956)."""
    return np.log((he + 0.5) / (she + 0.5))


def measure(table: pd.DataFrame, pair: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """Return the numbers of one seed."""
    before, after = (pair[arm] for arm in ARMS)
    planted = table[~table["only_plays"]]
    first, second = planted["model"], planted["model_second"]
    unseen = np.where(planted["withheld"] == 0, first, second)
    seen = np.where(planted["withheld"] == 0, second, first)
    plays = table[table["only_plays"]]
    names, verbs = slice(N_NOUNS, len(SUBJECTS) - 1), slice(len(SUBJECTS), None)
    corpus = corpus_log_odds(*before["counts"].T)
    gaps = {arm: gap(pair[arm]["log_odds"][:N_NOUNS, 0], pair[arm]["log_odds"][-1, 0]) for arm in ARMS}
    plain = {arm: float(np.abs(pair[arm]["log_odds"][:N_NOUNS, 0]).mean()) for arm in ARMS}
    return {
        "rho": rho(table["model"], table["corpus"]),
        "rho_seen": rho(seen, planted["corpus"]),
        "rho_unseen": rho(unseen, planted["corpus"]),
        "rho_plays": rho(plays["model"], plays["corpus"]),
        "rho_names": rho(before["log_odds"][names, 0], corpus[names]),
        "rho_verbs": rho(before["verb_log_odds"], corpus[verbs]),
        "slope": float(np.polyfit(planted["corpus"], first, 1)[0]),
        "rho_balanced": rho(table["balanced"], table["corpus"]),
        "gap": gaps[ARMS[0]],
        "gap_balanced": gaps[ARMS[1]],
        "fall": 1 - gaps[ARMS[1]] / gaps[ARMS[0]],
        "fall_plain": 1 - plain[ARMS[1]] / plain[ARMS[0]],
        **{f"{key}_{arm}": one[key] for key in ("loss_biographies", "loss_plays") for arm, one in pair.items()},
        "cost_biographies": after["loss_biographies"] - before["loss_biographies"],
        "cost_plays": after["loss_plays"] - before["loss_plays"],
    }


def rho(x: Any, y: Any) -> float:
    """Return spearman's, 0 where one side is constant."""
    return float(np.nan_to_num(scipy.stats.spearmanr(x, y).statistic))


def percent(share: Interval) -> str:
    return f"{100 * share.mean:.0f} % ({100 * share.low:.0f} to {100 * share.high:.0f} %)"


def gap(nouns: np.ndarray, somebody: float) -> float:
    """Return how far the nouns move the log odds from those of the prompt without a noun, on average, in nats."""
    return float(np.abs(nouns - somebody).mean())


def claims(measures: Sequence[Mapping[str, float]]) -> list[Claim]:
    means = {key: interval([measure[key] for measure in measures]) for key in measures[0]}
    return [
        Claim(
            row="26a",
            text=f"Over {N_NOUNS} nouns, odds he : she after “The … said that” rank as in the text: Spearman’s "
            "ρ ≥ 0.6.",
            holds=means["rho"].mean >= 0.6,
            found=f"ρ = {means['rho']}; over the {len(PLAY_NOUNS)} nouns of the plays alone {means['rho_plays']}.",
            numbers={key: means[key] for key in ("rho", "rho_plays", "rho_names", "rho_verbs", "slope")},
        ),
        Claim(
            row="26b",
            text="The same holds for nouns in a prompt form in which training never showed them: ρ ≥ 0.6.",
            holds=means["rho_unseen"].mean >= 0.6,
            found=f"ρ = {means['rho_unseen']}; in the form that it did show {means['rho_seen']}.",
            numbers={key: means[key] for key in ("rho_unseen", "rho_seen")},
        ),
        Claim(
            row="26c",
            text="Retrained on the text and its pronoun-swapped twin, the gap between nouns falls by at least 80 %.",
            holds=means["fall"].mean >= 0.8,
            found=f"Gap {means['gap']} nats before, {means['gap_balanced']} after: {percent(means['fall'])} less.",
            numbers={key: means[key] for key in ("gap", "gap_balanced", "fall", "fall_plain", "rho_balanced")},
        ),
        Claim(
            row="26d",
            text="What balance costs: validation loss on the text as written, balanced model minus the other.",
            holds=None,
            found=f"{means['cost_biographies']} nats a token on biographies, {means['cost_plays']} on the plays.",
            numbers={key: value for key, value in means.items() if key.startswith(("loss", "cost"))},
        ),
    ]


if __name__ == "__main__":
    main()
