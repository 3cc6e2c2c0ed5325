"""The command `judge`: a language model that the user chooses tests explanations against where latents fire."""

import dataclasses
import json
import math
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, Option

from interp.checks.errors import InterpError
from interp.cli.command_arguments import OVERWRITE, check_writable_file, check_writable_folder, read_table
from interp.cli.field_flags import FieldFlags, settings_of
from interp.cli.option_groups import HOW_IT_RUNS
from interp.cli.toml_values import assignment, toml_value
from interp.runtime.progress_bar import Bar
from interp.storage.artifacts import find_artifact, is_run

if TYPE_CHECKING:
    from interp.autointerp.judge import Judge
    from interp.features.feature_store import FeatureStore


_ENDPOINT = "The language model"
"""The group of the options that say which one judges."""


def _judge_configs() -> list[type]:
    from interp.autointerp.endpoint import EndpointConfig
    from interp.autointerp.judge import JudgeConfig

    return [JudgeConfig, EndpointConfig]


def judge_command(
    source: Annotated[Path, Argument(help="a run folder, or a feature store")],
    *,
    out: Annotated[Path, Option(help="a folder")],
    explanations: Annotated[
        Path | None, Option(help="a .parquet or .csv as rank writes it (default: the run's)")
    ] = None,
    latent: Annotated[list[int] | None, Option(help="a latent to judge; may be repeated")] = None,
    sample: Annotated[int, Option(help="or judge this many, drawn from those explained", min=1)] = 50,
    settings: Annotated[dict[str, Any], FieldFlags(_judge_configs)],
    yes: Annotated[
        bool, Option("--yes", help="send the requests without asking here first", rich_help_panel=HOW_IT_RUNS)
    ] = False,
    base_url: Annotated[str | None, Option(help="instead of OPENAI_BASE_URL", rich_help_panel=_ENDPOINT)] = None,
    model: Annotated[str | None, Option(help="instead of OPENAI_MODEL", rich_help_panel=_ENDPOINT)] = None,
    key_variable: Annotated[
        str, Option(help="the environment variable with the key", rich_help_panel=_ENDPOINT)
    ] = "OPENAI_API_KEY",
    fields: Annotated[
        list[str] | None,
        Option(
            "--set",
            help="FIELD=VALUE of each request; temperature=none omits it; may be repeated",
            rich_help_panel=_ENDPOINT,
        ),
    ] = None,
    cache: Annotated[
        Path | None,
        Option(
            help="the file of answers, which other runs may share (default OUT.answers.sqlite)",
            rich_help_panel=HOW_IT_RUNS,
        ),
    ] = None,
    overwrite: Annotated[bool, OVERWRITE] = False,
) -> None:
    """explanations → detection and fuzzing scores, by an LLM

    Score explanations with a language model at any OpenAI-compatible endpoint: detection (in which texts does the
    latent fire?) and fuzzing (are the marked tokens those where it fires?), after EleutherAI's Delphi.
    No other command needs an endpoint. It shows what it will send before it sends it. Answers are kept, so that the
    same command resumes.

    \b
        OPENAI_BASE_URL   the endpoint, such as http://localhost:8000/v1 (default https://api.openai.com/v1)
        OPENAI_MODEL      the model
        OPENAI_API_KEY    the key; any word for a server that needs none"""
    find_artifact(source, "features")
    folder = out.resolve()  # the name of "." is empty
    cache = cache or folder.with_name(f"{folder.name}.answers.sqlite")
    check_writable_folder("--out", out)
    check_writable_file("--cache", cache, ".sqlite", overwrite=True)  # answers are added to it
    from interp.autointerp.endpoint import OPENAI_URL, Endpoint, EndpointConfig, api_key
    from interp.autointerp.judge import Judge, JudgeConfig
    from interp.features.scan_checks import scan_identity
    from interp.pipeline.readers import open_any
    from interp.storage.files import digest_json, write_json, write_parquet
    from interp.storage.folders import atomic_folder

    features = open_any(source, "features")
    config = JudgeConfig(**settings_of(JudgeConfig, settings))
    explained = _explanations(source, explanations, config.generate, features)
    key = api_key(key_variable)
    to = EndpointConfig(
        model=model or os.environ.get("OPENAI_MODEL", ""),
        base_url=base_url or os.environ.get("OPENAI_BASE_URL") or OPENAI_URL,
        fields=dict(map(_request_field, fields or [])),
        **settings_of(EndpointConfig, settings),
    )
    endpoint = Endpoint(to, key, cache)
    chosen = latent or _drawn(features, None if config.generate else explained, sample, config.seed)
    judge = Judge(features, explained, chosen, endpoint, config)
    if not judge.sampled:
        raise InterpError("no latent has both an explanation and enough firings to judge it: try others")
    settings = {**dataclasses.asdict(config), "model": to.model, "base_url": to.base_url, "fields": to.fields}
    made_of = {"kind": "judgements", "features": scan_identity(features), "latents": chosen, **settings}
    made_of["explanations"] = digest_json({latent: explained.get(latent) for latent in chosen})
    with atomic_folder(out, made_of, overwrite=overwrite) as new:
        _confirm(judge, yes)
        with Bar("judge") as bar:
            judged = judge.run(progress=bar)
        write_parquet(new / "judgements.parquet", judged.table)
        write_parquet(new / "windows.parquet", judged.windows)
        write_json(new / "summary.json", {"model": to.model, "base_url": to.base_url, **judged.summary})
    print(_summary(judged.summary))


def _explanations(source: Path, file: Path | None, generate: bool, features: "FeatureStore") -> dict[int, str]:
    """Return explanations by latent; none if the model is to write them all. Raises ValueError for explanations of
    other features."""
    if file is None and generate:
        return {}
    if file is None:
        if not is_run(source):
            raise InterpError("nothing to judge: give --explanations FILE (rank writes one), or --generate")
        from interp.pipeline.run import Run

        file = Run(source).path_to("ranking")
        if not file.is_file():
            raise InterpError(f"{source} has no ranking yet: `interp rank {source}` makes it")
    table = read_table("--explanations", file, ["explanation"], features).dropna(subset=["explanation"])
    return {int(latent): str(text) for latent, text in zip(table.latent, table.explanation, strict=True)}


def _request_field(text: str) -> tuple[str, Any]:
    name, value = assignment(text)
    if name in ("model", "messages", "stream"):
        raise InterpError(f"--set {text!r} must not set model, messages or stream")
    parsed = None if value == "none" else toml_value(value)
    try:
        json.dumps(parsed, allow_nan=False)
    except (TypeError, ValueError):
        raise InterpError(f"--set {text!r} is no value of JSON: write a date in quotes, and a finite number") from None
    return name, parsed


def _drawn(features: "FeatureStore", explained: dict[int, str] | None, sample: int, seed: int) -> list[int]:
    """Return latents drawn from the latents that fire and have an explanation."""
    import numpy as np

    table = features.table()
    fires = table.latent[table.n_active > 0]
    able = sorted(latent for latent in fires if explained is None or explained.get(latent))
    return np.sort(np.random.default_rng(seed).permutation(np.array(able, int))[:sample]).tolist()


def _confirm(judge: "Judge", yes: bool) -> None:
    """Print what will be sent; continue only with --yes or a yes on the terminal."""
    estimate = judge.estimate()
    words = (
        f"{len(judge.sampled):,} latents ({judge.left_out:,} left out: no explanation or too few firings); "
        f"{estimate.requests:,} requests to {judge.endpoint.config.base_url} ({estimate.cached:,} answered before), "
        f"about {estimate.prompt_tokens:,} tokens sent and {estimate.answer_tokens:,} received"
    )
    print(words, flush=True)
    if estimate.requests == 0 or yes:
        return
    if not sys.stdin.isatty():
        raise InterpError("nothing was sent: pass --yes to continue")
    if input("continue? [y/N] ").strip().lower() not in ("y", "yes"):
        raise InterpError("nothing was sent")


def _summary(summary: dict[str, Any]) -> str:
    lines = []
    for row in summary["scores"]:
        accuracy, f1 = (
            "{:.3f} [{:.3f}, {:.3f}]".format(*(math.nan if value is None else value for value in row[name]))
            for name in ("balanced_accuracy", "f1")
        )
        lines.append(
            f"{row['task']}, explanations {row['source']}: balanced accuracy {accuracy}, F1 {f1} "
            f"over {row['latents']:,} latents; {row['unreadable']:,} of {row['windows']:,} answers unreadable"
        )
    used = summary["requests"]
    lines.append(
        f"{used['asked']:,} requests sent, {used['from_disk']:,} answered from disk, {used['refused']:,} refused; "
        f"{used['prompt_tokens']:,} tokens sent and {used['completion_tokens']:,} received"
    )
    return "\n".join(lines)
