"""A language model behind an OpenAI-compatible endpoint: POST {base_url}/chat/completions.

In: bodies of requests. Out: their answers, from disk where the same request was answered before.

    name of an answer's file = SHA-256 of [base URL, body]                     so a repeat costs nothing
    wait before try n + 1    = the answer's Retry-After, else 2ⁿ s (n = 0, 1, …) and up to a quarter more, at most 60 s

Tried again: status 408, 409, 425, 429, 5xx, time-outs, broken connections, replies that are no chat completion. The
first request goes alone, so that a wrong key, model or address costs one. An answer's file appears whole or not at all,
so a run that was killed goes on where it stood. The key is in no file, message or `repr`.
"""

import hashlib
import http.client
import json
import math
import os
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

OPENAI = "https://api.openai.com/v1"
LONGEST_WAIT = 600.0
"""Seconds; an endpoint that asks for more ends the run."""
_BACKOFF_AT_MOST, _REPLY_BYTES, _SHOWN_CHARACTERS = 60.0, 1 << 22, 300
_LONGEST_TIMEOUT = 86_400
"""Seconds; a socket takes no endless time-out."""
_BYTES_PER_TOKEN = 3
_AGAIN = (408, 409, 425, 429)

Body = dict[str, Any]
Progress = Callable[[int, int, str], None]


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
        if not 0 < self.timeout <= _LONGEST_TIMEOUT:
            raise ValueError(f"timeout={self.timeout} must be above 0 and at most {_LONGEST_TIMEOUT} seconds")
        for name in ("tries", "concurrency"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}={getattr(self, name)} must be positive")
        for name, value in self.fields.items():
            _check_field(name, value)

    def body(self, messages: Sequence[Mapping[str, str]]) -> Body:
        given = {"model": self.model, "messages": list(messages), "temperature": 0, **self.fields}
        return {name: value for name, value in given.items() if value is not None}


@dataclass(frozen=True)
class Answer:
    text: str | None
    """None: the endpoint refused this request (`refusal` says why)."""
    refusal: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    """As the endpoint counts them; 0 where it does not say."""
    cached: bool = False


@dataclass(frozen=True)
class Estimate:
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
    """Answers requests, `concurrency` at a time; `pause` waits that many seconds between tries."""

    def __init__(
        self, config: EndpointConfig, key: str, cache: str | Path, *, pause: Callable[[float], Any] | None = None
    ):
        self.config, self.cache, self._key, self._stopped = config, Path(cache), key, threading.Event()
        self._pause = pause or self._stopped.wait
        self._opener = urllib.request.build_opener(_NoRedirects)

    def known(self, body: Body) -> Answer | None:
        """The answer on disk, if it is there."""
        try:
            stored = json.loads(self._file(body).read_text(encoding="utf-8"))
            prompt, completion = stored["tokens"]
            return Answer(stored["text"], "", prompt, completion, cached=True)
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None

    def estimate(self, bodies: Sequence[Body], answer_tokens: int) -> Estimate:
        """What asking these would take, `answer_tokens` being those of one answer."""
        new = [body for body in _unlike(bodies) if self.known(body) is None]
        prompt = sum(math.ceil(len(m["content"].encode()) / _BYTES_PER_TOKEN) for b in new for m in b["messages"])
        return Estimate(len(new), len(_unlike(bodies)) - len(new), prompt, answer_tokens * len(new))

    def ask(self, bodies: Sequence[Body], progress: Progress | None = None) -> list[Answer]:
        """One answer a body. Raises ValueError where the endpoint cannot be used: what is answered stays on disk."""
        new = [body for body in _unlike(bodies) if self.known(body) is None]
        fresh: dict[str, Answer] = {}
        self._stopped.clear()
        if new:
            fresh[_digest(self.config, new[0])] = self._answer(new[0], alone=True)
            if progress:
                progress(1, len(new), "answered")
        with ThreadPoolExecutor(self.config.concurrency) as pool:
            jobs = {pool.submit(self._answer, body): body for body in new[1:]}
            try:
                for done, job in enumerate(as_completed(jobs), 2):
                    fresh[_digest(self.config, jobs[job])] = job.result()
                    if progress:
                        progress(done, len(new), "answered")
            except BaseException:
                self._stopped.set()
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        answers = (fresh.get(_digest(self.config, body)) or self.known(body) for body in bodies)
        return [answer or Answer(None, "its file vanished") for answer in answers]

    def _answer(self, body: Body, alone: bool = False) -> Answer:
        for tried in range(self.config.tries):
            try:
                answer = self._send(body)
                self._keep(body, answer)
                return answer
            except _Refused as refused:
                if alone or refused.status in (401, 402, 403, 404) or 300 <= refused.status < 400:
                    raise ValueError(self._clean(f"{self.config.base_url} refused the request: {refused}")) from None
                return Answer(None, self._clean(str(refused)))
            except _Failed as failed:
                last = failed
                if (alone and failed.unreachable) or self._stopped.is_set():
                    break
                if tried + 1 < self.config.tries:
                    self._pause(self._wait(failed, tried, body))
        raise ValueError(
            self._clean(f"{self.config.base_url} gave no answer ({last}); what was answered is kept: run this again")
        )

    def _wait(self, failed: "_Failed", tried: int, body: Body) -> float:
        if failed.retry_after is None:
            spread = int(_digest(self.config, body)[:8], 16) / 2**32
            return min(_BACKOFF_AT_MOST, 2.0**tried * (1 + spread / 4))
        if failed.retry_after > LONGEST_WAIT:
            raise ValueError(self._clean(f"{self.config.base_url} asks to wait {failed.retry_after:.0f} s ({failed})"))
        return failed.retry_after

    def _send(self, body: Body) -> Answer:
        request = urllib.request.Request(
            f"{self.config.base_url.rstrip('/')}/chat/completions",
            json.dumps(body).encode(),
            {"Content-Type": "application/json", "Authorization": f"Bearer {self._key}"},
        )
        try:
            with self._opener.open(request, timeout=self.config.timeout) as reply:
                return _completion(reply.read(_REPLY_BYTES))
        except urllib.error.HTTPError as error:
            with error:
                said = f"status {error.code}: {_message(error)}"
            if error.code in _AGAIN or error.code >= 500:
                raise _Failed(said, _seconds(error.headers.get("Retry-After"))) from None
            raise _Refused(error.code, said) from None
        except http.client.InvalidURL as error:
            raise ValueError(
                self._clean(f"{self.config.base_url} cannot be asked ({error}): mend it, or the proxy in http_proxy")
            ) from None
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", error)
            raise _Failed(str(reason) or type(reason).__name__, unreachable=isinstance(reason, _UNREACHABLE)) from None

    def _keep(self, body: Body, answer: Answer) -> None:
        file = self._file(body)
        file.parent.mkdir(parents=True, exist_ok=True)
        tokens = (answer.prompt_tokens, answer.completion_tokens)
        stored = {"request": body, "text": answer.text, "tokens": tokens}
        temporary = file.with_suffix(f".{os.getpid()}-{threading.get_ident()}.tmp")
        temporary.write_text(json.dumps(stored, ensure_ascii=False), encoding="utf-8")
        os.replace(temporary, file)

    def _file(self, body: Body) -> Path:
        name = _digest(self.config, body)
        return self.cache / name[:2] / f"{name}.json"

    def _clean(self, text: str) -> str:
        """A server's words without the key and what a terminal would obey."""
        shown = "".join(c if c.isprintable() else " " for c in text.replace(self._key, "…"))
        return shown[:_SHOWN_CHARACTERS]


class _Failed(Exception):
    def __init__(self, said: str, retry_after: float | None = None, unreachable: bool = False):
        super().__init__(said)
        self.retry_after, self.unreachable = retry_after, unreachable


class _Refused(Exception):
    def __init__(self, status: int, said: str):
        super().__init__(said)
        self.status = status


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """The key goes to the address that was named, and nowhere else."""

    def redirect_request(self, *_: Any) -> None:
        return None


_UNREACHABLE = (ConnectionRefusedError, socket.gaierror)


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


def _completion(reply: bytes) -> Answer:
    try:
        content = json.loads(reply)
        text = content["choices"][0]["message"]["content"]
        usage = content.get("usage") or {}
        prompt, completion = (usage.get(name) for name in ("prompt_tokens", "completion_tokens"))
    except (ValueError, LookupError, TypeError, AttributeError):
        raise _Failed("the reply is no chat completion") from None
    if not isinstance(text, str | None):
        raise _Failed("the reply is no chat completion")
    counts = [count if isinstance(count, int) else 0 for count in (prompt, completion)]
    return Answer(text or "", "", counts[0], counts[1])


def _message(error: urllib.error.HTTPError) -> str:
    try:
        said = error.read(_REPLY_BYTES).decode("utf-8", "replace")
    except (OSError, http.client.HTTPException):
        return error.reason or "no reason given"
    try:
        return str(json.loads(said)["error"]["message"])
    except (ValueError, LookupError, TypeError):
        return said.strip() or error.reason or "no reason given"


def _seconds(retry_after: str | None) -> float | None:
    """A Retry-After header, in seconds or as a date."""
    if retry_after is None:
        return None
    try:
        seconds = float(retry_after)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(retry_after).timestamp() - time.time()
        except (ValueError, OverflowError):
            return None
    return max(0.0, seconds) if math.isfinite(seconds) else None


def _digest(config: EndpointConfig, body: Body) -> str:
    return hashlib.sha256(json.dumps([config.base_url.rstrip("/"), body], sort_keys=True).encode()).hexdigest()


def _unlike(bodies: Sequence[Body]) -> list[Body]:
    return list({json.dumps(body, sort_keys=True): body for body in bodies}.values())
