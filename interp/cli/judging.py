"""`judge`: explanations held against where latents fire, by a language model of the user's. Off unless asked for."""

import argparse
import json
import math
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from interp.cli.console import Bar
from interp.cli.files import check_writable, is_run, open_features, read_table
from interp.cli.parsing import command

if TYPE_CHECKING:
    from interp.autointerp.endpoint import EndpointConfig
    from interp.autointerp.judge import Judge, Judged
    from interp.features.feature_store import FeatureStore


def add_judge(commands: Any) -> None:
    text = """\
Score explanations with a language model behind any OpenAI-compatible endpoint: detection (in which texts does the
latent fire?) and fuzzing (are the marked tokens those where it fires?), after EleutherAI's Delphi.
Nothing else needs it. It says what it will ask before it asks; answers are kept, so that a run goes on where it stood.

    OPENAI_BASE_URL   the endpoint, such as http://localhost:8000/v1 (default https://api.openai.com/v1)
    OPENAI_MODEL      the model
    OPENAI_API_KEY    the key; any word for a server that asks for none"""
    parser = command(commands, "judge", _judge, "explanations → detection and fuzzing scores, by an LLM", text)
    parser.add_argument("features", type=Path, metavar="source", help="a run folder, or a feature store")
    parser.add_argument("--out", type=Path, required=True, help="a folder")
    parser.add_argument("--explanations", type=Path, help="a .parquet or .csv as rank writes it (default: the run's)")
    parser.add_argument("--generate", action="store_true", help="let the model write explanations, and judge those")
    parser.add_argument("--null", action="store_true", help="judge each latent by another's explanation beside it")
    parser.add_argument("--latents", type=int, nargs="+", metavar="N", help="judge these")
    parser.add_argument("--sample", type=int, default=50, help="or so many, drawn from those explained (default 50)")
    parser.add_argument("--tasks", nargs="+", default=["detection", "fuzzing"], choices=("detection", "fuzzing"))
    parser.add_argument("--windows", type=int, default=10, help="firing and silent texts each, a latent (default 10)")
    parser.add_argument("--shown", type=int, default=5, help="texts a request (default 5)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--yes", action="store_true", help="ask the endpoint without asking here first")
    _add_endpoint(parser)


def _add_endpoint(parser: argparse.ArgumentParser) -> None:
    endpoint = parser.add_argument_group("endpoint")
    endpoint.add_argument("--base-url", metavar="URL", help="instead of OPENAI_BASE_URL")
    endpoint.add_argument("--model", help="instead of OPENAI_MODEL")
    endpoint.add_argument("--key-variable", default="OPENAI_API_KEY", metavar="NAME", help="which variable has the key")
    endpoint.add_argument(
        "--set", action="append", default=[], metavar="FIELD=VALUE", help="of each request; temperature=none leaves out"
    )
    endpoint.add_argument("--concurrency", type=int, default=4, help="requests at a time (default 4)")
    endpoint.add_argument("--timeout", type=float, default=60.0, help="seconds (default 60)")
    endpoint.add_argument("--tries", type=int, default=7, help="of one request (default 7)")
    endpoint.add_argument("--cache", type=Path, help="the folder of answers (default OUT/answers)")
    endpoint.add_argument("--price-in", type=float, metavar="PRICE", help="of a million tokens asked")
    endpoint.add_argument("--price-out", type=float, metavar="PRICE", help="of a million tokens answered")


def _judge(options: argparse.Namespace) -> None:
    from interp.autointerp.endpoint import Endpoint, api_key
    from interp.autointerp.judge import Judge, JudgeConfig

    explained = _explanations_file(options)
    config = JudgeConfig(
        tasks=tuple(options.tasks),
        n_windows=options.windows,
        shown=options.shown,
        generate=options.generate,
        null=options.null,
        seed=options.seed,
    )
    for flag, price in (("--price-in", options.price_in), ("--price-out", options.price_out)):
        if price is not None and not 0 <= price < math.inf:
            raise ValueError(f"{flag} {price} must be the price of a million tokens, 0 or more")
    cache = options.cache or options.out / "answers"
    check_writable("--out", options.out, folder=True)
    check_writable("--cache", cache, folder=True)
    key = api_key(options.key_variable)
    endpoint = Endpoint(_endpoint_config(options), key, cache)
    features = open_features(options.features)
    explanations = _explanations(explained) if explained else {}
    judge = Judge(features, explanations, _latents(options, features, explanations), endpoint, config)
    if not judge.sampled:
        raise ValueError("no latent has both an explanation and enough firings to judge it by: try others")
    _confirm(options, judge)
    with Bar("judge") as bar:
        judged = judge.run(bar)
    _write(judged, options.out, {"model": endpoint.config.model, "base_url": endpoint.config.base_url})
    print(_summary(judged))


def _endpoint_config(options: argparse.Namespace) -> "EndpointConfig":
    from interp.autointerp.endpoint import OPENAI, EndpointConfig
    from interp.pipeline.config import toml_value

    fields: dict[str, Any] = {}
    for text in options.set:
        name, equals, value = text.partition("=")
        if not (name and equals and value) or name in ("model", "messages", "stream"):
            raise ValueError(f"--set {text!r} must be FIELD=VALUE, of another field than model, messages or stream")
        fields[name] = None if value == "none" else toml_value(value)
    return EndpointConfig(
        model=options.model or os.environ.get("OPENAI_MODEL", ""),
        base_url=options.base_url or os.environ.get("OPENAI_BASE_URL") or OPENAI,
        timeout=options.timeout,
        tries=options.tries,
        concurrency=options.concurrency,
        fields=fields,
    )


def _explanations_file(options: argparse.Namespace) -> Path | None:
    """None where the model is to write them all."""
    if options.explanations or options.generate:
        return options.explanations
    if not is_run(options.features):
        raise ValueError("nothing to judge: give --explanations FILE (rank writes one), or --generate")
    file = options.features / "ranking" / "ranking.parquet"
    if not file.is_file():
        raise ValueError(f"{options.features} has no ranking yet: `interp rank {options.features}` makes it")
    return file


def _explanations(file: Path) -> dict[int, str]:
    table = read_table("--explanations", file, ["explanation"]).dropna(subset=["explanation"])
    return {int(latent): str(text) for latent, text in zip(table.latent, table.explanation, strict=True)}


def _latents(options: argparse.Namespace, features: "FeatureStore", explanations: dict[int, str]) -> list[int]:
    import numpy as np

    if options.latents:
        return options.latents
    if options.sample < 1:
        raise ValueError(f"--sample {options.sample} must be at least 1")
    table = features.table()
    alive = set(table.latent[table.n_active > 0])
    able = np.array(sorted(alive if options.generate else alive & {k for k, text in explanations.items() if text}), int)
    drawn = np.random.default_rng(options.seed).permutation(able)[: options.sample]
    return sorted(drawn.tolist())


def _confirm(options: argparse.Namespace, judge: "Judge") -> None:
    """Say what will be asked; go on only with --yes or a yes on the terminal."""
    estimate = judge.estimate()
    words = (
        f"{len(judge.sampled):,} latents ({judge.left_out:,} left out: no explanation or too few firings); "
        f"{estimate.requests:,} requests to {judge.endpoint.config.base_url} ({estimate.cached:,} answered before), "
        f"about {estimate.prompt_tokens:,} tokens asked and {estimate.answer_tokens:,} answered"
    )
    if options.price_in is not None or options.price_out is not None:
        words += f", about {estimate.price(options.price_in or 0, options.price_out or 0):.2f} at the prices given"
    print(words, flush=True)
    if estimate.requests == 0 or options.yes:
        return
    if not sys.stdin.isatty():
        raise ValueError("nothing was asked: say --yes to go on")
    if input("go on? [y/N] ").strip().lower() not in ("y", "yes"):
        raise ValueError("nothing was asked")


def _write(judged: "Judged", out: Path, about: dict[str, str]) -> None:
    out.mkdir(parents=True, exist_ok=True)
    for name, table in (("judgements", judged.table), ("windows", judged.windows)):
        table.to_parquet(out / f"{name}.tmp", index=False)
        os.replace(out / f"{name}.tmp", out / f"{name}.parquet")
    (out / "summary.tmp").write_text(json.dumps({**about, **judged.summary}, indent=1), encoding="utf-8")
    os.replace(out / "summary.tmp", out / "summary.json")


def _summary(judged: "Judged") -> str:
    lines = []
    for row in judged.summary["scores"]:
        (accuracy, low, high), (f1, f1_low, f1_high) = (
            [math.nan if value is None else value for value in row[name]] for name in ("balanced_accuracy", "f1")
        )
        lines.append(
            f"{row['task']}, explanations {row['source']}: balanced accuracy {accuracy:.3f} [{low:.3f}, {high:.3f}], "
            f"F1 {f1:.3f} [{f1_low:.3f}, {f1_high:.3f}] over {row['latents']:,} latents; "
            f"{row['unreadable']:,} of {row['windows']:,} answers not readable"
        )
    used = judged.summary["requests"]
    lines.append(
        f"{used['asked']:,} requests asked, {used['from_disk']:,} answered from disk, {used['refused']:,} refused; "
        f"{used['prompt_tokens']:,} tokens asked and {used['completion_tokens']:,} answered"
    )
    return "\n".join(lines)
