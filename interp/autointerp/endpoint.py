"""Ask a language model at an OpenAI-compatible endpoint, through the `openai` client (`pip install openai`). Every
answer is kept on disk.

In: bodies of requests to {base_url}/chat/completions. Out: their answers. The client retries transient errors
(time-outs, broken connections, status 408, 409, 429 and 5xx). Answers are rows of an SQLite file, found by the SHA-256
of [base URL, body], so a repeated request costs nothing and a killed run resumes. They are text and numbers, which
cannot run code.

The first request is sent alone, so that a wrong key, model or address costs only one request. Later, and where answers
are on disk, a refusal is about the text of one request, and is counted. The key does not follow a redirect, and appears
in no file, message or `repr`.
"""

import json
import math
import os
import sqlite3
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from interp.checks.errors import DamagedError, InterpError
from interp.checks.limits import CheckedFields, Positive, PositiveInt
from interp.runtime.progress import Progress, no_progress
from interp.storage.files import digest_json

OPENAI_URL = "https://api.openai.com/v1"
_SHOWN_CHARACTERS = 300
_BYTES_PER_TOKEN = 3
_TRANSIENT_STATUSES = (408, 409, 429)
_FATAL_STATUSES = (401, 402, 403, 404)

Body = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class EndpointConfig(CheckedFields):
    model: str
    base_url: str = OPENAI_URL
    timeout: Positive = 60.0
    """Seconds without a byte after which a request is retried."""
    tries: PositiveInt = 5
    """Number of attempts per request."""
    concurrency: PositiveInt = 4
    """Number of concurrent requests."""
    fields: Mapping[str, Any] = field(default_factory=dict)
    """Further fields of each body (max_completion_tokens, reasoning_effort, …). A field that is None is left out
    (temperature)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.model:
            raise InterpError("no model is given: pass --model, or set OPENAI_MODEL")
        address = urlsplit(self.base_url)
        if address.scheme not in ("http", "https") or not address.hostname:
            raise InterpError(f"base_url={self.base_url!r} must be like https://host/v1 or http://host:8000/v1")

    def body(self, messages: Sequence[Mapping[str, str]]) -> Body:
        """Return the body of a request with these messages, at temperature 0 unless `fields` sets another."""
        body = {"model": self.model, "messages": list(messages), "temperature": 0, **self.fields}
        return {name: value for name, value in body.items() if value is not None}


class Answer(NamedTuple):
    text: str | None
    """The text of the answer. None if the endpoint refused this request."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    """Number of tokens, as the endpoint counts them. 0 if it does not count them."""
    cached: bool = False


class RequestEstimate(NamedTuple):
    """The estimated size of the requests that have no answer on disk. The number of tokens is a guess: a third of the
    UTF-8 bytes."""

    requests: int
    cached: int
    prompt_tokens: int
    answer_tokens: int


def api_key(name: str) -> str:
    """Return the key in the environment variable `name`. Raises ValueError if there is none."""
    key = os.environ.get(name, "").strip()
    if not key or not key.isprintable() or not key.isascii():
        raise InterpError(
            f"the environment variable {name} holds no key: set it (to any word, for a server that needs none)"
        )
    return key


class Endpoint:
    """A client that answers requests, `concurrency` at a time.
    cache: the file of answers. It is created with the first answer.

    Raises ValueError if the client is not installed or cannot be made.
    """

    def __init__(self, config: EndpointConfig, key: str, cache: str | Path):
        try:
            import openai
        except ImportError:
            raise InterpError("asking a language model needs the package openai: pip install openai") from None
        self.config = config
        self._answers = _Answers(Path(cache))
        self._key = key
        self._accepts = False  # whether it has answered a request, now or before
        try:
            self._client = openai.OpenAI(
                base_url=config.base_url,
                api_key=key,
                timeout=config.timeout,
                max_retries=config.tries - 1,
                http_client=openai.DefaultHttpxClient(follow_redirects=False),
            )
        except Exception as error:  # the client's errors, whose classes differ between its versions
            message = f"{config.base_url} cannot be reached ({error}): correct it, or the proxy in http_proxy"
            raise InterpError(self._clean(message)) from None

    def known(self, body: Body) -> Answer | None:
        """Return the answer on disk, if there is one."""
        return self._answers.get(self._digest(body))

    def estimate(self, bodies: Sequence[Body], answer_tokens: int) -> RequestEstimate:
        """Estimate the cost of these requests.
        answer_tokens: the expected number of tokens of one answer."""
        distinct = {self._digest(body): body for body in bodies}.values()
        new = [body for body in distinct if self.known(body) is None]
        prompt = sum(math.ceil(len(m["content"].encode()) / _BYTES_PER_TOKEN) for b in new for m in b["messages"])
        return RequestEstimate(len(new), len(distinct) - len(new), prompt, answer_tokens * len(new))

    def ask(self, bodies: Sequence[Body], progress: Progress = no_progress) -> list[Answer]:
        """Return one answer per body. Raises ValueError if the endpoint cannot be used. The answers so far stay on
        disk."""
        distinct = {self._digest(body): body for body in bodies}
        answers = {name: answer for name, body in distinct.items() if (answer := self.known(body))}
        new = [name for name in distinct if name not in answers]
        self._accepts = self._accepts or bool(answers)
        if new:
            answers[new[0]] = self._answer(distinct[new[0]], first=not self._accepts)
            self._accepts = True
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

    def _answer(self, body: Body, first: bool = False) -> Answer:
        """Ask, and keep the answer. A refusal counts as an answer without text, unless every request would be
        refused."""
        from openai import APIConnectionError, APIStatusError

        settings = {name: value for name, value in body.items() if name not in ("model", "messages")}
        try:
            reply = self._client.chat.completions.create(
                model=body["model"], messages=body["messages"], extra_body=settings
            )
            answer = _read(reply)
        except APIStatusError as error:
            status = error.status_code
            may_pass = status in _TRANSIENT_STATUSES or status >= 500
            if not (first or may_pass or status in _FATAL_STATUSES or status < 400):
                return Answer(None)
            detail = error.body.get("message") if isinstance(error.body, dict) else error.body
            message = f"status {status}: {detail or 'no reason given'}"
        except APIConnectionError as error:
            may_pass = True
            message = str(error.__cause__ or error)
        except ValueError as error:
            may_pass = True
            message = f"the reply is not a chat completion: {error}"
        else:
            self._answers.put(self._digest(body), body, answer)
            return answer
        remedy = "; the answers so far are kept: run this again" if may_pass else ""
        raise InterpError(f"{self.config.base_url} gave no answer ({self._clean(message)}){remedy}")

    def _digest(self, body: Body) -> str:
        return digest_json([self.config.base_url.rstrip("/"), body])

    def _clean(self, text: str) -> str:
        """Return a server's message, without the key and without control characters."""
        printable = "".join(c if c.isprintable() else " " for c in text.replace(self._key, "…"))
        return printable[:_SHOWN_CHARACTERS]


class _Answers:
    """The answers in an SQLite file. Each is written as soon as it arrives, in one transaction. Threads and processes
    may share the file."""

    def __init__(self, file: Path):
        self._file = file
        self._lock = Lock()

    def get(self, digest: str) -> Answer | None:
        if not self._file.exists():
            return None
        with self._lock:
            row = self._rows.execute("select text, asked, answered from answers where digest = ?", [digest]).fetchone()
        if row is None:
            return None
        text, prompt_tokens, completion_tokens = row
        return Answer(text, prompt_tokens, completion_tokens, cached=True)

    def put(self, digest: str, body: Body, answer: Answer) -> None:
        row = (
            digest,
            json.dumps(body, ensure_ascii=False),
            answer.text,
            answer.prompt_tokens,
            answer.completion_tokens,
        )
        with self._lock:
            self._rows.execute("insert or replace into answers values (?, ?, ?, ?, ?)", row)

    @cached_property
    def _rows(self) -> sqlite3.Connection:
        self._file.parent.mkdir(parents=True, exist_ok=True)
        try:
            rows = sqlite3.connect(self._file, timeout=60, isolation_level=None, check_same_thread=False)
            tables = {name for (name,) in rows.execute("select name from sqlite_master where type = 'table'")}
            if tables - {"answers"}:
                raise InterpError(f"{self._file} is a database of {min(tables)}: name another file with --cache")
            rows.execute(
                "create table if not exists answers "
                "(digest text primary key, request text, text text, asked integer, answered integer)"
            )
        except sqlite3.DatabaseError as error:
            raise DamagedError(f"{self._file} is not a file of answers ({error}): name another with --cache") from None
        return rows


def _read(reply: Any) -> Answer:
    """Return the answer in a reply. Raises ValueError for a reply that is not a chat completion."""
    try:
        text = reply.choices[0].message.content or ""
    except (AttributeError, LookupError, TypeError):
        text = None
    if not isinstance(text, str):
        raise InterpError("it holds no text")
    counts = [getattr(reply.usage, name, 0) for name in ("prompt_tokens", "completion_tokens")]
    prompt_tokens, completion_tokens = (count if isinstance(count, int) else 0 for count in counts)
    return Answer(text, prompt_tokens, completion_tokens)
