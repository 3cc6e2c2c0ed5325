"""`judge`: explanations held against where latents fire, by a language model of the user's. Off unless asked for."""

import math
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from interp.cli.console import Bar, assignment, toml_value
from interp.cli.paths import check_writable, is_run, open_features, read_table
from interp.storage.files import write_json, write_parquet

if TYPE_CHECKING:
    from interp.exchange.judge import Judge
    from interp.features.feature_store import FeatureStore


def judge_command(
    source: Annotated[Path, "a run folder, or a feature store"],
    *,
    out: Annotated[Path, "a folder"],
    explanations: Annotated[Path | None, "a .parquet or .csv as rank writes it (default: the run's)"] = None,
    generate: Annotated[bool, "let the model write explanations, and judge those"] = False,
    null: Annotated[bool, "judge each latent by another's explanation beside it"] = False,
    latents: Annotated[tuple[int, ...], "judge these"] = (),
    sample: Annotated[int, "or so many, drawn from those explained"] = 50,
    tasks: Annotated[tuple[Literal["detection", "fuzzing"], ...], "(default both)"] = ("detection", "fuzzing"),
    windows: Annotated[int, "firing and silent texts each, a latent"] = 10,
    shown: Annotated[int, "texts a request"] = 5,
    seed: int = 0,
    yes: Annotated[bool, "ask the endpoint without asking here first"] = False,
    base_url: Annotated[str | None, "instead of OPENAI_BASE_URL"] = None,
    model: Annotated[str | None, "instead of OPENAI_MODEL"] = None,
    key_variable: Annotated[str, "which variable has the key"] = "OPENAI_API_KEY",
    set: Annotated[list[str] | None, "FIELD=VALUE of each request; temperature=none leaves it out"] = None,
    concurrency: Annotated[int, "requests at a time"] = 4,
    timeout: Annotated[float, "seconds"] = 60.0,
    tries: Annotated[int, "of one request"] = 7,
    cache: Annotated[Path | None, "the folder of answers (default OUT/answers)"] = None,
    price_in: Annotated[float | None, "of a million tokens asked"] = None,
    price_out: Annotated[float | None, "of a million tokens answered"] = None,
) -> None:
    """explanations → detection and fuzzing scores, by an LLM

    Score explanations with a language model behind any OpenAI-compatible endpoint: detection (in which texts does the
    latent fire?) and fuzzing (are the marked tokens those where it fires?), after EleutherAI's Delphi.
    Nothing else needs it. It says what it will ask before it asks; answers are kept, so that a run goes on where it
    stood.

        OPENAI_BASE_URL   the endpoint, such as http://localhost:8000/v1 (default https://api.openai.com/v1)
        OPENAI_MODEL      the model
        OPENAI_API_KEY    the key; any word for a server that asks for none"""
    from interp.exchange.endpoint import OPENAI, Endpoint, EndpointConfig, api_key
    from interp.exchange.judge import Judge, JudgeConfig

    explained = _explanations(source, explanations, generate)
    asked: Any = {"tasks": tuple(tasks), "n_windows": windows, "shown": shown}
    config = JudgeConfig(generate=generate, null=null, seed=seed, **asked)
    for flag, price in (("--price-in", price_in), ("--price-out", price_out)):
        if price is not None and not 0 <= price < math.inf:
            raise ValueError(f"{flag} {price} must be the price of a million tokens, 0 or more")
    cache = cache or out / "answers"
    check_writable("--out", out)
    check_writable("--cache", cache)
    key = api_key(key_variable)
    to = EndpointConfig(
        model=model or os.environ.get("OPENAI_MODEL", ""),
        base_url=base_url or os.environ.get("OPENAI_BASE_URL") or OPENAI,
        timeout=timeout,
        tries=tries,
        concurrency=concurrency,
        fields=dict(map(_request_field, set or [])),
    )
    endpoint, features = Endpoint(to, key, cache), open_features(source)
    chosen = list(latents) or _drawn(features, None if generate else explained, sample, seed)
    judge = Judge(features, explained, chosen, endpoint, config)
    if not judge.sampled:
        raise ValueError("no latent has both an explanation and enough firings to judge it by: try others")
    _confirm(judge, yes, price_in, price_out)
    with Bar("judge") as bar:
        judged = judge.run(bar)
    out.mkdir(parents=True, exist_ok=True)
    write_parquet(out / "judgements.parquet", judged.table)
    write_parquet(out / "windows.parquet", judged.windows)
    write_json(out / "summary.json", {"model": to.model, "base_url": to.base_url, **judged.summary})
    print(_summary(judged.summary))


def _explanations(source: Path, file: Path | None, generate: bool) -> dict[int, str]:
    """By latent; none where the model is to write them all. ValueError for those of other features."""
    if file is None and generate:
        return {}
    if file is None:
        if not is_run(source):
            raise ValueError("nothing to judge: give --explanations FILE (rank writes one), or --generate")
        file = source / "ranking" / "ranking.parquet"
        if not file.is_file():
            raise ValueError(f"{source} has no ranking yet: `interp rank {source}` makes it")
    table = read_table("--explanations", file, ["explanation"], open_features(source)).dropna(subset=["explanation"])
    return {int(latent): str(text) for latent, text in zip(table.latent, table.explanation, strict=True)}


def _request_field(text: str) -> tuple[str, Any]:
    name, value = assignment(text)
    if name in ("model", "messages", "stream"):
        raise ValueError(f"--set {text!r} must be of another field than model, messages or stream")
    return name, None if value == "none" else toml_value(value)


def _drawn(features: "FeatureStore", explained: dict[int, str] | None, sample: int, seed: int) -> list[int]:
    """Of the latents that fire, and are explained."""
    import numpy as np

    if sample < 1:
        raise ValueError(f"--sample {sample} must be at least 1")
    table = features.table()
    fires = table.latent[table.n_active > 0]
    able = sorted(latent for latent in fires if explained is None or explained.get(latent))
    return np.sort(np.random.default_rng(seed).permutation(np.array(able, int))[:sample]).tolist()


def _confirm(judge: "Judge", yes: bool, price_in: float | None, price_out: float | None) -> None:
    """Say what will be asked; go on only with --yes or a yes on the terminal."""
    estimate = judge.estimate()
    words = (
        f"{len(judge.sampled):,} latents ({judge.left_out:,} left out: no explanation or too few firings); "
        f"{estimate.requests:,} requests to {judge.endpoint.config.base_url} ({estimate.cached:,} answered before), "
        f"about {estimate.prompt_tokens:,} tokens asked and {estimate.answer_tokens:,} answered"
    )
    if price_in is not None or price_out is not None:
        words += f", about {estimate.price(price_in or 0, price_out or 0):.2f} at the prices given"
    print(words, flush=True)
    if estimate.requests == 0 or yes:
        return
    if not sys.stdin.isatty():
        raise ValueError("nothing was asked: say --yes to go on")
    if input("go on? [y/N] ").strip().lower() not in ("y", "yes"):
        raise ValueError("nothing was asked")


def _summary(summary: dict[str, Any]) -> str:
    lines = []
    for row in summary["scores"]:
        accuracy, f1 = (
            "{:.3f} [{:.3f}, {:.3f}]".format(*(math.nan if value is None else value for value in row[name]))
            for name in ("balanced_accuracy", "f1")
        )
        lines.append(
            f"{row['task']}, explanations {row['source']}: balanced accuracy {accuracy}, F1 {f1} "
            f"over {row['latents']:,} latents; {row['unreadable']:,} of {row['windows']:,} answers not readable"
        )
    used = summary["requests"]
    lines.append(
        f"{used['asked']:,} requests asked, {used['from_disk']:,} answered from disk, {used['refused']:,} refused; "
        f"{used['prompt_tokens']:,} tokens asked and {used['completion_tokens']:,} answered"
    )
    return "\n".join(lines)
