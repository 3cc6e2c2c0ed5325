"""A language model behind an OpenAI-compatible endpoint, asked through the `openai` client (`pip install openai`), with
every answer kept on disk.

In: bodies of requests to {base_url}/chat/completions. Out: their answers. An answer's file is named by the SHA-256 of
[base URL, body] and appears whole or not at all, so a repeat costs nothing and a killed run goes on where it stood.

The client retries what may pass: status 408, 409, 429 and 5xx, time-outs, broken connections. The first request goes
alone, so that a wrong key, model or address costs one. The key follows no redirect and is in no file, message or
`repr`.
"""

import json
import math
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from interp.storage.files import Progress, digest_json, no_progress, write_json

if TYPE_CHECKING:
    import httpx

OPENAI = "https://api.openai.com/v1"
MAX_TIMEOUT = 86_400
"""Seconds; a socket takes no endless time-out."""
_SHOWN_CHARACTERS, _BYTES_PER_TOKEN = 300, 3
_TRANSIENT = (408, 409, 429)
_FATAL = (401, 402, 403, 404)

Body = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class EndpointConfig:
    model: str
    base_url: str = OPENAI
    timeout: float = 60.0
    """Seconds without a byte, after which a request is tried again."""
    tries: int = 7
    concurrency: int = 4
    """Requests under way at a time."""
    fields: Mapping[str, Any] = field(default_factory=dict)
    """More fields of each body (max_completion_tokens, reasoning_effort, …); None leaves one out (temperature)."""

    def __post_init__(self) -> None:
        if not self.model:
            raise ValueError("no model is named: give --model, or set OPENAI_MODEL")
        _check_address(self.base_url)
        if not 0 < self.timeout <= MAX_TIMEOUT:
            raise ValueError(f"timeout={self.timeout} must be above 0 and at most {MAX_TIMEOUT} seconds")
        for name in ("tries", "concurrency"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}={getattr(self, name)} must be positive")
        for name, value in self.fields.items():
            _check_field(name, value)

    def body(self, messages: Sequence[Mapping[str, str]]) -> Body:
        given = {"model": self.model, "messages": list(messages), "temperature": 0, **self.fields}
        return {name: value for name, value in given.items() if value is not None}


class Answer(NamedTuple):
    text: str | None
    """None: the endpoint refused this request."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    """As the endpoint counts them; 0 where it does not say."""
    cached: bool = False


class Estimate(NamedTuple):
    """Of what is not on disk yet. Tokens are a guess: a third of the UTF-8 bytes."""

    requests: int
    cached: int
    prompt_tokens: int
    answer_tokens: int

    def price(self, price_in: float, price_out: float) -> float:
        """At prices a million tokens."""
        return (self.prompt_tokens * price_in + self.answer_tokens * price_out) / 1e6


def api_key(name: str, environment: Mapping[str, str] = os.environ) -> str:
    """The key in the environment variable `name`. Raises ValueError where there is none."""
    key = environment.get(name, "").strip()
    if not key or not key.isprintable() or not key.isascii():
        raise ValueError(
            f"the environment variable {name} holds no key: set it (to any word, for a server that asks for none)"
        )
    return key


class Endpoint:
    """Answers requests, `concurrency` at a time. Raises ValueError where the client is missing or cannot be made."""

    def __init__(self, config: EndpointConfig, key: str, cache: str | Path):
        try:
            import openai
        except ImportError:
            raise ValueError("asking a language model needs the package openai: pip install openai") from None
        self.config, self.cache, self._key = config, Path(cache), key
        try:
            self._client = openai.OpenAI(
                base_url=config.base_url,
                api_key=key,
                timeout=config.timeout,
                max_retries=config.tries - 1,
                http_client=openai.DefaultHttpxClient(follow_redirects=False),
            )
        except Exception as error:  # the client's own kinds of error, which differ between its versions
            said = f"{config.base_url} cannot be asked ({error}): mend it, or the proxy in http_proxy"
            raise ValueError(self._clean(said)) from None

    def known(self, body: Body) -> Answer | None:
        """The answer on disk, if it is there."""
        try:
            stored = json.loads(self._file(body).read_text(encoding="utf-8"))
            prompt, completion = stored["tokens"]
            return Answer(stored["text"], prompt, completion, cached=True)
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None

    def estimate(self, bodies: Sequence[Body], answer_tokens: int) -> Estimate:
        """What asking these would take, `answer_tokens` being those of one answer."""
        distinct = {self._digest(body): body for body in bodies}.values()
        new = [body for body in distinct if self.known(body) is None]
        prompt = sum(math.ceil(len(m["content"].encode()) / _BYTES_PER_TOKEN) for b in new for m in b["messages"])
        return Estimate(len(new), len(distinct) - len(new), prompt, answer_tokens * len(new))

    def ask(self, bodies: Sequence[Body], progress: Progress = no_progress) -> list[Answer]:
        """One answer a body. Raises ValueError where the endpoint cannot be used: what is answered stays on disk."""
        distinct = {self._digest(body): body for body in bodies}
        answers = {name: answer for name, body in distinct.items() if (answer := self.known(body))}
        new = [name for name in distinct if name not in answers]
        if new:
            answers[new[0]] = self._answer(distinct[new[0]], alone=True)
            progress(1, len(new), "answered")
        pool = ThreadPoolExecutor(self.config.concurrency)
        try:
            jobs = {pool.submit(self._answer, distinct[name]): name for name in new[1:]}
            for done, job in enumerate(as_completed(jobs), 2):
                answers[jobs[job]] = job.result()
                progress(done, len(new), "answered")
        finally:
            pool.shutdown(cancel_futures=True)
        return [answers[self._digest(body)] for body in bodies]

    def _answer(self, body: Body, alone: bool = False) -> Answer:
        """Asked and kept; a refusal is an answer without text, unless it would meet every request."""
        from openai import APIConnectionError, APIStatusError

        try:
            answer = self._send(body, alone)
        except APIStatusError as error:
            status, kept = error.status_code, _may_pass(error)
            if not (alone or kept or status in _FATAL or status < 400):
                return Answer(None)
            detail = error.body.get("message") if isinstance(error.body, dict) else error.body
            said = f"status {status}: {detail or 'no reason given'}"
        except (APIConnectionError, ValueError) as error:
            said, kept = str(error.__cause__ or error), True
        else:
            file, tokens = self._file(body), (answer.prompt_tokens, answer.completion_tokens)
            file.parent.mkdir(parents=True, exist_ok=True)
            write_json(file, {"request": body, "text": answer.text, "tokens": tokens}, indent=None)
            return answer
        remedy = "; what was answered is kept: run this again" if kept else ""
        raise ValueError(f"{self.config.base_url} gave no answer ({self._clean(said)}){remedy}")

    def _send(self, body: Body, alone: bool) -> Answer:
        """One request; the first of a run is not repeated where nothing is heard at its address."""
        import httpx
        from openai import APIStatusError, APITimeoutError

        client = self._client.with_options(max_retries=0) if alone else self._client
        try:
            return _completion(client.post("/chat/completions", body=body, cast_to=httpx.Response))
        except (APIStatusError, APITimeoutError) as error:
            if not (alone and _may_pass(error)):
                raise
        return self._send(body, alone=False)

    def _digest(self, body: Body) -> str:
        return digest_json([self.config.base_url.rstrip("/"), body])

    def _file(self, body: Body) -> Path:
        name = self._digest(body)
        return self.cache / name[:2] / f"{name}.json"

    def _clean(self, text: str) -> str:
        """A server's words without the key and what a terminal would obey."""
        shown = "".join(c if c.isprintable() else " " for c in text.replace(self._key, "…"))
        return shown[:_SHOWN_CHARACTERS]


def _completion(response: "httpx.Response") -> Answer:
    """Raises ValueError for a reply that is no chat completion."""
    try:
        reply = response.json()
        text, usage = reply["choices"][0]["message"].get("content") or "", reply.get("usage") or {}
        counted = [usage.get(name) for name in ("prompt_tokens", "completion_tokens")]
    except (ValueError, LookupError, TypeError, AttributeError):
        text = None
    if not isinstance(text, str):
        raise ValueError("the reply is no chat completion")
    prompt, answer = (count if isinstance(count, int) else 0 for count in counted)
    return Answer(text, prompt, answer)


def _may_pass(error: Exception) -> bool:
    """Whether another try may end otherwise; a time-out has no status."""
    status = getattr(error, "status_code", 408)
    return status in _TRANSIENT or status >= 500


def _check_address(url: str) -> None:
    remedy = f"base_url={url!r} must be like https://host/v1 or http://host:8000/v1, without a user or a query"
    try:
        address = urlsplit(url)
        known = address.scheme in ("http", "https") and bool(address.hostname)
        _ = address.port  # which raises for what is no port
    except ValueError as error:
        raise ValueError(f"{remedy} ({error})") from None
    more = "@" in address.netloc or address.query or address.fragment
    if not known or more or " " in url or not url.isprintable() or not address.path.isascii():
        raise ValueError(remedy)


def _check_field(name: str, value: Any) -> None:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        raise ValueError(
            f"the field {name}={value} has no JSON to be sent as: give a finite number, a string, true, false or a list"
        ) from None
