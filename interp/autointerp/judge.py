"""Measure how well a language model can predict from an explanation where a latent fires: detection and fuzzing.

    detection   shown an explanation and a text: does the latent fire in it?
    fuzzing     shown an explanation and a text with marked tokens: are those the tokens where it fires?

    balanced accuracy = ½ (hits / firing windows + correct rejections / silent windows)           chance is ½
    F1                = 2 hits / (2 hits + misses + false alarms)

The protocol is that of EleutherAI's Delphi (Paulo et al. 2024, arXiv 2410.13928). Each request has a few shuffled
windows. There are as many silent windows as firing windows, and firing windows come from all slices of activation. For
fuzzing, the silent windows are marked at the positions that are marked in the firing windows. Windows with an
unreadable answer count in neither measure. Intervals are 95 % intervals. For a latent they are Jeffreys' (hits and
false alarms as Beta(n + ½, …)); for a mean they come from a bootstrap over latents.

Limits: such scores are as high on random transformers and frozen dictionaries as on trained ones (arXiv 2501.17727,
2602.14111). `null=True` also judges each latent by the explanation of another.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from interp.autointerp import prompts
from interp.autointerp.endpoint import Answer, Body, Endpoint, RequestEstimate
from interp.autointerp.prompts import TASKS, LatentWindows, Window, read_explanation, sample_windows
from interp.checks.arguments import check_latents
from interp.checks.errors import InterpError
from interp.checks.limits import CheckedFields, PositiveInt, Seed
from interp.features.feature_store import FeatureStore
from interp.runtime.progress import Progress, no_progress
from interp.runtime.progress_bar import shows_progress
from interp.statistics.estimates import bootstrap

GIVEN, GENERATED, NULL = "given", "generated", "another latent's"
N_SHOWN_WINDOWS = 12
"""Number of windows shown to explain a latent."""
_N_DRAWS = 4000
"""Number of draws from the distributions of hits and false alarms of a latent."""
_JUDGEMENT, _COUNTS = ["latent", "source", "task", "explanation"], ["n_firing", "n_silent", "hits", "false_alarms"]
_TYPICAL_EXPLANATION = "what an explanation of usual length says that the feature of the model fires on " * 2


@dataclass(frozen=True, kw_only=True)
class JudgeConfig(CheckedFields):
    tasks: tuple[str, ...] = TASKS
    """The tasks, detection and fuzzing."""
    n_windows: PositiveInt = 10
    """Number of windows of each kind, firing and silent, per latent and task."""
    shown: PositiveInt = 5
    """Number of windows per request."""
    generate: bool = False
    """Let the model write an explanation of each latent, and judge that."""
    null: bool = False
    """Also judge each latent by the explanation of another."""
    seed: Seed = 0
    """Seed of the drawn windows and latents."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.tasks or not set(self.tasks) <= set(TASKS):
            raise InterpError(f"tasks={self.tasks} must be some of {', '.join(TASKS)}")


class Judged(NamedTuple):
    table: pd.DataFrame
    """One row per latent, source of its explanation and task: explanation, n_firing, n_silent (windows with a readable
    answer), hits, false_alarms, n_unreadable, balanced_accuracy, ci_low, ci_high, f1, f1_low, f1_high."""
    windows: pd.DataFrame
    """One row per judged window: latent, source, task, row, interval (−1 if silent), fires, judged (None if not
    readable)."""
    summary: dict[str, Any]
    """Means over latents with intervals, by source and task; recall by slice of activation; numbers of requests and
    tokens."""


class _Question(NamedTuple):
    """One request: to judge some windows of a latent by one explanation."""

    latent: int
    source: str
    task: str
    explanation: str
    windows: tuple[Window, ...]


class Judge:
    """Judge explanations of some latents, by windows of text.

    explanations: the explanation of each latent. A latent whose explanation is "" is left out.
    latents: with `generate`, the model writes the explanations of these latents. Raises ValueError for a latent that
    does not exist, and for features whose tokens have no strings, such as images.
    """

    def __init__(
        self,
        features: FeatureStore,
        explanations: Mapping[int, str],
        latents: Sequence[int],
        endpoint: Endpoint,
        config: JudgeConfig,
    ):
        if beyond := [latent for latent in explanations if not 0 <= latent < features.d_sae]:
            raise InterpError(
                f"an explanation is for latent {beyond[0]}, but the features of {features.path} are "
                f"0..{features.d_sae - 1}: give explanations of these features"
            )
        if not features.has_vocab:
            rows = "tokens without their strings: scan with vocab=" if features.has_text else "rows that are not text"
            raise InterpError(f"a language model cannot read what {features.path} is a scan of, {rows}")
        latents = check_latents(latents, features.d_sae)
        self.endpoint = endpoint
        self.config = config
        self.explanations = {latent: text for latent, text in explanations.items() if text}
        judged = [latent for latent in latents if config.generate or latent in self.explanations]
        sampled = sample_windows(
            features, judged, n_windows=config.n_windows, n_shown=N_SHOWN_WINDOWS, seed=config.seed
        )
        # All firings of a rare latent may lie in the held-out half. Then there is nothing that a model could explain.
        self._explainable = [windows for windows in sampled if windows.shown] if config.generate else []
        generated = {windows.latent for windows in self._explainable}
        self.sampled = [w for w in sampled if w.latent in generated or w.latent in self.explanations]
        self.left_out = len(latents) - len(self.sampled)

    def estimate(self) -> RequestEstimate:
        """Estimate all requests that are not answered on disk."""
        bodies = self._explain_bodies()
        answers = [self.endpoint.known(body) for body in bodies]
        texts = [(read_explanation(a.text) if a else None) or _TYPICAL_EXPLANATION for a in answers]
        first = self.endpoint.estimate(bodies, prompts.EXPLANATION_TOKENS)
        second = self.endpoint.estimate(self._judge_bodies(self._questions(texts)), 3 * self.config.shown + 2)
        return RequestEstimate(*np.add(first, second).tolist())

    @shows_progress
    def run(self, *, progress: Progress = no_progress) -> Judged:
        """Ask all questions that are not answered on disk. Raises ValueError if the endpoint cannot be used."""
        explained = self.endpoint.ask(self._explain_bodies(), progress)
        texts = [read_explanation(answer.text) for answer in explained]
        questions = self._questions(texts)
        answers = self.endpoint.ask(self._judge_bodies(questions), progress)
        windows = _window_table(questions, answers)
        table = _judgement_table(windows, self.config.seed)
        n_given = sum(windows.latent in self.explanations for windows in self.sampled)
        n_generated = sum(map(bool, texts))
        summary = {
            "scores": _scores(table, windows, self.config.seed),
            "latents": {"judged": len(self.sampled), "left_out": self.left_out},
            "explanations": {"given": n_given, "generated": n_generated, "unreadable": len(texts) - n_generated},
            "requests": _usage([*explained, *answers]),
        }
        return Judged(table, windows.drop(columns="explanation"), summary)

    def _explain_bodies(self) -> list[Body]:
        """Return a request to explain each latent that can be explained. There are none unless `generate` is set."""
        return [
            self.endpoint.config.body(prompts.explain_messages(windows.shown, windows.maximum))
            for windows in self._explainable
        ]

    def _judge_bodies(self, questions: Sequence[_Question]) -> list[Body]:
        return [self.endpoint.config.body(prompts.judge_messages(q.task, q.explanation, q.windows)) for q in questions]

    def _questions(self, generated: Sequence[str | None]) -> list[_Question]:
        """Draw the requests for judgements.
        generated: explanations of the explainable latents, or None."""
        written = {windows.latent: text for windows, text in zip(self._explainable, generated, strict=True) if text}
        questions: list[_Question] = []
        for source, explanations in {GIVEN: self.explanations, GENERATED: written}.items():
            judged = [windows for windows in self.sampled if windows.latent in explanations]
            texts_of_judged = [explanations[windows.latent] for windows in judged]
            texts: dict[str, list[str | None]] = {source: [*texts_of_judged]}
            if self.config.null:
                texts[f"{NULL} ({source})"] = _explanations_of_others(texts_of_judged)
            for name, shown in texts.items():
                for latent_windows, text in zip(judged, shown, strict=True):
                    if text is not None:
                        questions += self._questions_about(latent_windows, name, text)
        return questions

    def _questions_about(self, latent_windows: LatentWindows, source: str, text: str) -> Iterator[_Question]:
        windows = latent_windows.firing + latent_windows.silent
        shown = self.config.shown
        for number, task in enumerate(self.config.tasks):
            order = np.random.default_rng([self.config.seed, latent_windows.latent, number]).permutation(len(windows))
            for start in range(0, len(windows), shown):
                part = tuple(windows[i] for i in order[start : start + shown])
                yield _Question(latent_windows.latent, source, task, text, part)


def _explanations_of_others(texts: Sequence[str]) -> list[str | None]:
    """Return for each explanation the next one, in turn, with other words, as equal words are no null; None if there is
    none."""
    others = ([*texts[i + 1 :], *texts[:i]] for i in range(len(texts)))
    return [next((other for other in rest if other != text), None) for text, rest in zip(texts, others, strict=True)]


def judge_scores(n_firing: int, n_silent: int, hits: int, false_alarms: int, *, seed: int = 0) -> dict[str, float]:
    """Return balanced accuracy and F1 with 95 % intervals. They are NaN if windows of one kind were not judged."""
    names = ("balanced_accuracy", "ci_low", "ci_high", "f1", "f1_low", "f1_high")
    if not n_firing or not n_silent:
        return dict.fromkeys(names, float("nan"))

    def scores(recall: Any, alarm: Any) -> tuple[Any, Any]:
        hits = recall * n_firing
        return (recall + 1 - alarm) / 2, 2 * hits / (hits + alarm * n_silent + n_firing)

    generator = np.random.default_rng(seed)
    recall = generator.beta(hits + 0.5, n_firing - hits + 0.5, _N_DRAWS)
    alarm = generator.beta(false_alarms + 0.5, n_silent - false_alarms + 0.5, _N_DRAWS)
    values = []
    for point, draws in zip(scores(hits / n_firing, false_alarms / n_silent), scores(recall, alarm), strict=True):
        low, high = np.quantile(draws, [0.025, 0.975])
        values += [point, min(point, float(low)), max(point, float(high))]
    return dict(zip(names, values, strict=True))


def _window_table(questions: Sequence[_Question], answers: Sequence[Answer]) -> pd.DataFrame:
    """Return the table `Judged.windows`, with the explanation of each."""
    rows = []
    for question, answer in zip(questions, answers, strict=True):
        read = prompts.read_judgements(answer.text, len(question.windows))
        judgements: Sequence[bool | None] = read or [None] * len(question.windows)
        for window, judgement in zip(question.windows, judgements, strict=True):
            rows.append((*question[:4], window.row, window.interval, window.fires, judgement))
    columns = [*_JUDGEMENT, "row", "interval", "fires", "judged"]
    return pd.DataFrame(rows, columns=columns).astype({"judged": "boolean", "fires": bool})


def _judgement_table(windows: pd.DataFrame, seed: int) -> pd.DataFrame:
    rows = []
    for judgement, shown in windows.groupby(_JUDGEMENT, sort=False):
        firing, silent = (shown.judged[shown.fires == fires].dropna() for fires in (True, False))
        counts = (len(firing), len(silent), int(firing.sum()), int(silent.sum()))
        row = dict(zip((*_JUDGEMENT, *_COUNTS), (*judgement, *counts), strict=True))
        rows.append(row | {"n_unreadable": int(shown.judged.isna().sum()), **judge_scores(*counts, seed=seed)})
    return pd.DataFrame(rows)


def _scores(table: pd.DataFrame, windows: pd.DataFrame, seed: int) -> list[dict[str, Any]]:
    """Return the mean scores of each source of explanations and task."""
    scores = []
    for (source, task), shown in windows.groupby(["source", "task"], sort=False):
        judgements = table[(table.source == source) & (table.task == task)]
        firing = shown[shown.fires].dropna(subset=["judged"])
        score = {
            "source": source,
            "task": task,
            "latents": len(judgements),
            "balanced_accuracy": _mean(judgements.balanced_accuracy.dropna().to_numpy(), seed),
            "f1": _mean(judgements.f1.dropna().to_numpy(), seed),
            "recall_by_interval": {i: [int(hits.sum()), len(hits)] for i, hits in firing.groupby("interval").judged},
            "windows": len(shown),
            "unreadable": int(shown.judged.isna().sum()),
        }
        scores.append(score)
    return scores


def _mean(values: np.ndarray, seed: int) -> list[float | None]:
    """Return the mean over latents with its 95 % interval. All are None if there is no latent."""
    return [*bootstrap(values, seed=seed)] if len(values) else [None, None, None]


def _usage(answers: Sequence[Answer]) -> dict[str, int]:
    answers = list({id(answer): answer for answer in answers}.values())  # equal requests are asked once
    fresh = [answer for answer in answers if not answer.cached]
    return {
        "asked": len(fresh),
        "from_disk": len(answers) - len(fresh),
        "refused": sum(answer.text is None for answer in answers),
        "prompt_tokens": sum(answer.prompt_tokens for answer in fresh),
        "completion_tokens": sum(answer.completion_tokens for answer in fresh),
    }
