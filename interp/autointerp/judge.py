"""How well a language model can tell from an explanation where a latent fires: detection and fuzzing.

    detection   shown an explanation and a text: does the latent fire in it?
    fuzzing     shown an explanation and a text with marked tokens: are those the tokens where it fires?

    balanced accuracy = ½ (hits / firing windows + correct rejections / silent windows)           chance is ½
    F1                = 2 hits / (2 hits + misses + false alarms)

The protocol of EleutherAI's Delphi (Paulo et al. 2024, arXiv 2410.13928): a few shuffled windows a request, as many
silent ones as firing ones, the latter from all slices of activation; for fuzzing the silent windows are marked where
firing ones are. Windows whose answer cannot be read count in neither measure. Intervals are 95 % ones: of a latent,
those of Jeffreys (hits and false alarms as Beta(n + ½, …)); of a mean, of a bootstrap over latents.

Failing: such scores are as high on random transformers and frozen dictionaries as on trained ones (arXiv 2501.17727,
2602.14111). `null=True` judges each latent by the explanation of another beside it. Nothing else needs this module.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from interp.autointerp.endpoint import Answer, Body, Endpoint, Estimate, Progress
from interp.autointerp.prompts import (
    EXPLANATION_TOKENS,
    TASKS,
    explain_messages,
    judge_messages,
    read_explanation,
    read_judgements,
)
from interp.autointerp.windows import LatentWindows, Window, sample_windows
from interp.features.feature_store import FeatureStore

if TYPE_CHECKING:
    import pandas as pd

GIVEN, GENERATED, NULL = "given", "generated", "another latent's"
_DRAWS = 4000
_TYPICAL_EXPLANATION = "what an explanation of usual length says that the feature of the model fires on " * 2


@dataclass(frozen=True, kw_only=True)
class JudgeConfig:
    tasks: tuple[str, ...] = TASKS
    n_windows: int = 10
    """Windows of each kind, firing and silent, a latent and task."""
    shown: int = 5
    """Windows a request."""
    n_examples: int = 12
    """Windows shown to explain a latent."""
    generate: bool = False
    """Let the model write an explanation of each latent, and judge that."""
    null: bool = False
    """Judge each latent by the explanation of another too."""
    seed: int = 0

    def __post_init__(self) -> None:
        unknown = [task for task in self.tasks if task not in TASKS]
        if unknown or not self.tasks:
            raise ValueError(f"tasks={self.tasks} must be some of {', '.join(TASKS)}")
        for name in ("n_windows", "shown", "n_examples"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1")
        if self.seed < 0:
            raise ValueError(f"seed={self.seed} must not be negative: take 0 or more")


@dataclass(frozen=True)
class Judged:
    table: "pd.DataFrame"
    """One row a latent, source of its explanation and task: n_firing, n_silent (windows with a readable answer), hits,
    false_alarms, n_unreadable, balanced_accuracy, ci_low, ci_high, f1, f1_low, f1_high."""
    windows: "pd.DataFrame"
    """One row a window judged: latent, source, task, row, interval (−1: silent), fires, judged (None: not readable)."""
    summary: dict[str, Any]
    """Means over latents with intervals, by source and task; recall by slice of activation; requests and tokens."""


@dataclass(frozen=True)
class _Question:
    """One request: some windows of a latent, by one explanation."""

    latent: int
    source: str
    task: str
    explanation: str
    windows: tuple[Window, ...]


class Judge:
    """Explanations of some latents, and the windows to judge them by.

    explanations: words by latent; latents with "" are left out. With `generate` those of `latents` are asked for.
    Raises ValueError for a latent that does not exist.
    """

    def __init__(
        self,
        features: FeatureStore,
        explanations: Mapping[int, str],
        latents: Sequence[int],
        endpoint: Endpoint,
        config: JudgeConfig,
    ):
        for latent in latents:
            if not 0 <= latent < features.d_sae:
                raise ValueError(f"latent {latent} does not exist: there are 0..{features.d_sae - 1}")
        self.endpoint, self.config = endpoint, config
        self.given = {latent: text for latent, text in explanations.items() if text}
        wanted = [latent for latent in dict.fromkeys(latents) if config.generate or latent in self.given]
        sizes = {"n_windows": config.n_windows, "n_shown": config.n_examples, "seed": config.seed}
        self.sampled = sample_windows(features, wanted, **sizes)
        self.left_out = len(dict.fromkeys(latents)) - len(self.sampled)

    def estimate(self) -> Estimate:
        """Of all requests that are not answered on disk."""
        bodies = self._explain_bodies()
        known = {each.latent: self.endpoint.known(body) for each, body in zip(self.sampled, bodies, strict=True)}
        texts = {latent: _explanation(answer) or _TYPICAL_EXPLANATION for latent, answer in known.items()}
        first = self.endpoint.estimate(bodies if self.config.generate else [], EXPLANATION_TOKENS)
        judged = [self._body(question) for question in self._questions(texts if self.config.generate else {})]
        second = self.endpoint.estimate(judged, 3 * self.config.shown + 2)
        return Estimate(*(a + b for a, b in zip(_counts(first), _counts(second), strict=True)))

    def run(self, progress: Progress | None = None) -> Judged:
        """Ask whatever is not answered on disk. Raises ValueError where the endpoint cannot be used."""
        answers, generated = [], {}
        if self.config.generate:
            answers = self.endpoint.ask(self._explain_bodies(), progress)
            texts = (_explanation(answer) for answer in answers)
            generated = {each.latent: text for each, text in zip(self.sampled, texts, strict=True) if text}
        questions = self._questions(generated)
        judgements = self.endpoint.ask([self._body(question) for question in questions], progress)
        windows = _window_table(questions, judgements)
        words = {(q.latent, q.source): q.explanation for q in questions}
        table = _judgement_table(windows, words, self.config.seed)
        summary = _summary(table, windows, self.config.seed)
        summary["latents"] = {"judged": len(self.sampled), "left_out": self.left_out}
        summary["explanations"] = {
            "given": len(self.given.keys() & {each.latent for each in self.sampled}),
            "generated": len(generated),
            "unreadable": len(self.sampled) - len(generated) if self.config.generate else 0,
        }
        return Judged(table, windows, {**summary, "requests": _usage([*answers, *judgements])})

    def _explain_bodies(self) -> list[Body]:
        return [self.endpoint.config.body(explain_messages(each.shown, each.maximum)) for each in self.sampled]

    def _body(self, question: _Question) -> Body:
        return self.endpoint.config.body(judge_messages(question.task, question.explanation, question.windows))

    def _questions(self, generated: Mapping[int, str]) -> list[_Question]:
        questions = []
        for texts, source in ((self.given, GIVEN), (generated, GENERATED)):
            mine = [each for each in self.sampled if each.latent in texts]
            questions += self._asked(mine, {each.latent: texts[each.latent] for each in mine}, source)
            if self.config.null and len(mine) > 1:
                others = {a.latent: texts[b.latent] for a, b in zip(mine, mine[1:] + mine[:1], strict=True)}
                questions += self._asked(mine, others, f"{NULL} ({source})")
        return questions

    def _asked(self, sampled: Sequence[LatentWindows], texts: Mapping[int, str], source: str) -> list[_Question]:
        questions = []
        for each in sampled:
            for number, task in enumerate(self.config.tasks):
                windows = each.firing + each.silent
                order = np.random.default_rng([self.config.seed, each.latent, number]).permutation(len(windows))
                shuffled = [windows[i] for i in order]
                for start in range(0, len(shuffled), self.config.shown):
                    part = tuple(shuffled[start : start + self.config.shown])
                    questions.append(_Question(each.latent, source, task, texts[each.latent], part))
        return questions


def _explanation(answer: Answer | None) -> str | None:
    return read_explanation(answer.text) if answer else None


def _counts(estimate: Estimate) -> tuple[int, int, int, int]:
    return estimate.requests, estimate.cached, estimate.prompt_tokens, estimate.answer_tokens


def _window_table(questions: Sequence[_Question], answers: Sequence[Answer]) -> "pd.DataFrame":
    import pandas as pd

    rows = []
    for question, answer in zip(questions, answers, strict=True):
        read = read_judgements(answer.text, len(question.windows))
        judged: list[bool | None] = [*read] if read else [None] * len(question.windows)
        for window, said in zip(question.windows, judged, strict=True):
            place = (question.latent, question.source, question.task, window.row, window.interval)
            rows.append((*place, window.fires, said))
    columns = ["latent", "source", "task", "row", "interval", "fires", "judged"]
    return pd.DataFrame(rows, columns=columns).astype({"judged": "boolean", "fires": bool})


def _judgement_table(windows: "pd.DataFrame", words: Mapping[tuple[int, str], str], seed: int) -> "pd.DataFrame":
    import pandas as pd

    rows = []
    for key, mine in windows.groupby(["latent", "source", "task"], sort=False):
        latent, source, task = cast("tuple[int, str, str]", key)
        read = mine.dropna(subset=["judged"])
        counts = {
            "n_firing": int(read.fires.sum()),
            "n_silent": int((~read.fires).sum()),
            "hits": int((read.fires & read.judged).sum()),
            "false_alarms": int((~read.fires & read.judged).sum()),
        }
        scores = agreement(*counts.values(), seed=seed)
        place = {"latent": latent, "source": source, "task": task, "explanation": words[latent, source]}
        rows.append({**place, **counts, "n_unreadable": len(mine) - len(read), **scores})
    return pd.DataFrame(rows)


def agreement(n_firing: int, n_silent: int, hits: int, false_alarms: int, *, seed: int = 0) -> dict[str, float]:
    """Balanced accuracy and F1 with 95 % intervals; NaN where windows of one kind were not judged."""
    names = ("balanced_accuracy", "ci_low", "ci_high", "f1", "f1_low", "f1_high")
    if not n_firing or not n_silent:
        return dict.fromkeys(names, float("nan"))

    def scores(recall: Any, alarm: Any) -> tuple[Any, Any]:
        found = recall * n_firing
        return (recall + 1 - alarm) / 2, 2 * found / (found + alarm * n_silent + n_firing)

    generator = np.random.default_rng(seed)
    recall = generator.beta(hits + 0.5, n_firing - hits + 0.5, _DRAWS)
    alarm = generator.beta(false_alarms + 0.5, n_silent - false_alarms + 0.5, _DRAWS)
    values: list[float] = []
    for point, drawn in zip(scores(hits / n_firing, false_alarms / n_silent), scores(recall, alarm), strict=True):
        low, high = np.quantile(drawn, [0.025, 0.975])
        values += [point, min(point, float(low)), max(point, float(high))]
    return dict(zip(names, values, strict=True))


def _summary(table: "pd.DataFrame", windows: "pd.DataFrame", seed: int) -> dict[str, Any]:
    scores = []
    for (source, task), mine in table.groupby(["source", "task"], sort=False) if len(table) else ():
        own = windows[(windows.source == source) & (windows.task == task)]
        firing = own[own.fires].dropna(subset=["judged"])
        recall = {interval: firing.judged[firing.interval == interval] for interval in sorted(set(firing.interval))}
        scores.append(
            {
                "source": source,
                "task": task,
                "latents": len(mine),
                "balanced_accuracy": _mean(mine.balanced_accuracy.dropna().to_numpy(), seed),
                "f1": _mean(mine.f1.dropna().to_numpy(), seed),
                "recall_by_interval": {int(i): [int(said.sum()), len(said)] for i, said in recall.items()},
                "windows": len(own),
                "unreadable": int(own.judged.isna().sum()),
            }
        )
    return {"scores": scores}


def _mean(values: np.ndarray, seed: int) -> list[float | None]:
    """Mean and 95 % interval over latents."""
    if len(values) == 0:
        return [None, None, None]
    means = values[np.random.default_rng(seed).integers(len(values), size=(_DRAWS, len(values)))].mean(1)
    return [float(values.mean()), *np.quantile(means, [0.025, 0.975]).tolist()]


def _usage(answers: Sequence[Answer]) -> dict[str, int]:
    fresh = [answer for answer in answers if not answer.cached]
    return {
        "asked": len(fresh),
        "from_disk": len(answers) - len(fresh),
        "refused": sum(answer.text is None for answer in answers),
        "prompt_tokens": sum(answer.prompt_tokens for answer in fresh),
        "completion_tokens": sum(answer.completion_tokens for answer in fresh),
    }
