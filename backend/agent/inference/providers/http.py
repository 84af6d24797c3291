"""HTTP as all providers use it: three deadlines, bounded reads, and every failure as a `ModelError`."""

import asyncio
import contextlib
import email.utils
import math
import re
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from datetime import UTC
from typing import Any

import aiohttp
import msgspec
from msgspec import Struct

from backend.agent.inference.errors import (
    BadModelRequest,
    ContextOverflow,
    KeyRejected,
    ModelError,
    ModelNotFound,
    NotConfigured,
    RateLimited,
    UpstreamFailed,
    UpstreamTimeout,
)
from backend.kit.egress import (
    EgressRefused,
    GuardedConnector,
    NoSuchHost,
    PrivateAddress,
    TooSlow,
    UnsafeURL,
    parse_url,
)

MAX_ERROR_BYTES = 64 * 1024
MAX_LISTING_BYTES = 32 * 1024 * 1024
_MAX_DETAIL = 500
_REFUSAL_SECONDS = 5.0  # for the words of an error, whose status is known already
# After the last event of an answer: how long to wait for the end of the HTTP body, so that the connection can be used again.
_DRAIN_SECONDS = 0.02
# How seldom streams are read: 0.15 ms for each that is open, about what reading it costs, within these bounds (seconds).
_BEAT_SECONDS_PER_STREAM, _SHORTEST_BEAT, _LONGEST_BEAT = 0.000_15, 0.01, 0.12

# How vendors say that a conversation is too long. OpenAI, Azure, vLLM, llama.cpp, LM Studio, Groq, Anthropic, Google, Ollama.
_OVERFLOW = re.compile(
    r"context_length_exceeded|exceed_context_size|maximum context length|context length|context window|context size"
    r"|prompt is too long|input is too long|input length exceeds|too many (input )?tokens|input token count"
    r"|reduce the length of the (messages|prompt)|maximum number of tokens allowed",
    re.IGNORECASE,
)
_NO_MODEL = re.compile(
    r"model_not_found|invalid_model|not a valid model|unknown model|no such model|invalid model\b",
    re.IGNORECASE,
)
_NO_MODEL_404 = re.compile(r"no endpoints found|\bmodels?\b", re.IGNORECASE)
_QUOTA = re.compile(
    r"insufficient_quota|insufficient[_ ]credits?|billing_hard_limit|billing_not_active|exceeded your current quota"
    r"|request too large",
    re.IGNORECASE,
)
_BUSY = re.compile(r"rate_?limit|too many requests|overloaded|rate limited", re.IGNORECASE)
_BAD_KEY = re.compile(
    r"invalid_api_key|incorrect api key|authentication_error|invalid api key", re.IGNORECASE
)
_FLAGGED = re.compile(r"moderation|flagged|content_policy", re.IGNORECASE)


class Timeouts(Struct, frozen=True):
    """Deadlines of a call, in seconds: to connect, to the first event of the answer, and between two events."""

    connect: float = 10.0
    first_byte: float = 120.0
    idle: float = 60.0


DEFAULT_TIMEOUTS = Timeouts()


class Beat:
    """How often the streams of a process are read. A wake-up costs as much as a dozen tokens, so with hundreds of streams each is read only
    now and then, the longer the more there are, some of them together at each tick. With a few each word is read at once.
    """

    def __init__(self) -> None:
        self.streams = 0
        self._ticks: dict[int, asyncio.Event] = {}

    async def wait(self, read_at: float) -> None:
        """Return when a stream that was read at this time of the loop's clock is to be read again."""
        seconds = min(_LONGEST_BEAT, self.streams * _BEAT_SECONDS_PER_STREAM)
        if seconds < _SHORTEST_BEAT:
            return
        loop = asyncio.get_running_loop()
        tick = math.ceil((read_at + seconds) / _SHORTEST_BEAT)
        if tick * _SHORTEST_BEAT <= loop.time():
            return
        struck = self._ticks.get(tick)
        if struck is None:
            struck = self._ticks[tick] = asyncio.Event()
            loop.call_at(tick * _SHORTEST_BEAT, self._strike, tick)
        await struck.wait()

    def _strike(self, tick: int) -> None:
        self._ticks.pop(tick).set()


class Incoming:
    """The body of an answer as it comes, until a moment that may be put off without cost."""

    def __init__(self, wire: "Wire", response: aiohttp.ClientResponse, until: float, seconds: float) -> None:
        self._wire = wire
        self._content = response.content
        self._loop = asyncio.get_running_loop()
        self._until, self._seconds = until, seconds
        self._timer = self._loop.call_at(until, self._look)
        self._read_at: float | None = None

    def wait(self, seconds: float) -> None:
        """From now on wait for so long."""
        self._until, self._seconds = self._loop.time() + seconds, seconds
        if self._until < self._timer.when():
            self._timer.cancel()
            self._timer = self._loop.call_at(self._until, self._look)

    async def read(self) -> bytes:
        """All bytes that are there, waiting for some; empty at the end of the body. Raises `ModelError`."""
        try:
            if self._read_at is not None:
                await self._wire.beat.wait(self._read_at)
            data = await self._content.readany()
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise self._wire.translation(error, "answer", self._seconds) from error
        self._read_at = self._loop.time()
        return data

    def close(self) -> None:
        """Nothing more is waited for."""
        self._timer.cancel()

    def _look(self) -> None:
        """The timer is not moved with each event: it looks, when it fires, whether the wait was put off since."""
        if self._loop.time() < self._until:
            self._timer = self._loop.call_at(self._until, self._look)
        else:
            self._content.set_exception(TimeoutError())


def open_session(private_targets: frozenset[str]) -> aiohttp.ClientSession:
    """The session for all model calls of a process: behind the guard, with room for as many streams as there are runs."""
    connector = GuardedConnector(private_targets, limit=0)
    return aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())


class Wire:
    """One vendor's address, as one account uses it."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        *,
        provider: str,
        base_url: str,
        headers: Mapping[str, str],
        timeouts: Timeouts,
        beat: Beat | None = None,
        secret: str | None = None,
    ) -> None:
        """Raises `BadModelRequest` when the address is none."""
        try:
            parse_url(base_url)
        except UnsafeURL as error:
            raise BadModelRequest(f"The base URL cannot be used: {error}.", provider=provider) from error
        self.provider = provider
        self.base_url = base_url.rstrip("/")
        self.timeouts = timeouts
        self.beat = beat or Beat()
        self._session = session
        self._headers = dict(headers)
        self._secret = secret

    @contextlib.asynccontextmanager
    async def call(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Send and give the response once its headers are there and say 200. Leaving early ends the upstream call."""
        limits = aiohttp.ClientTimeout(total=None, sock_connect=self.timeouts.connect)
        try:
            async with asyncio.timeout(self.timeouts.first_byte):
                response = await self._session.request(
                    method,
                    self.base_url + path,
                    data=body,
                    headers={**self._headers, **headers} if headers else self._headers,
                    timeout=limits,
                    # A redirect would carry the conversation, and perhaps the key, to another address.
                    allow_redirects=False,
                )
        except (TimeoutError, aiohttp.ClientError, OSError, EgressRefused) as error:
            raise self.translation(error, "answer", self.timeouts.first_byte) from error
        try:
            if response.status != 200:
                raise await self._refusal(response)
            yield response
            response.release()
        finally:
            response.close()

    @contextlib.contextmanager
    def incoming(self, response: aiohttp.ClientResponse, until: float, seconds: float) -> Iterator[Incoming]:
        """The body, whose first event must be here when the loop's clock says `until`; `seconds` words the error."""
        incoming = Incoming(self, response, until, seconds)
        self.beat.streams += 1
        try:
            yield incoming
        finally:
            self.beat.streams -= 1
            incoming.close()

    async def drain(self, response: aiohttp.ClientResponse) -> None:
        """Wait a moment for the end of the body. Whatever goes wrong here concerns only the connection's second use."""
        if not response.content.at_eof():
            with contextlib.suppress(TimeoutError, aiohttp.ClientError, OSError):
                async with asyncio.timeout(_DRAIN_SECONDS):
                    await response.content.readany()

    async def fetch(self, method: str, path: str, body: bytes | None = None) -> bytes:
        """A whole body of at most 32 MB."""
        async with self.call(method, path, body) as response:
            return await self.body(response, MAX_LISTING_BYTES)

    async def body(self, response: aiohttp.ClientResponse, limit: int, seconds: float | None = None) -> bytes:
        """The rest of the body, within `seconds`. Raises `UpstreamFailed` when it is longer than `limit` bytes."""
        parts: list[bytes] = []
        size = 0
        waits = self.timeouts.first_byte if seconds is None else seconds
        until = asyncio.get_running_loop().time() + waits
        with self.incoming(response, until, waits) as incoming:
            while data := await incoming.read():
                parts.append(data)
                size += len(data)
                if size > limit:
                    raise self.failed(f"The answer is longer than {limit} bytes.")
        return b"".join(parts)

    def failed(self, detail: str) -> UpstreamFailed:
        return UpstreamFailed(self.safe(detail), provider=self.provider)

    def safe(self, text: str) -> str:
        """A vendor's text, shortened, on one line, and without the key."""
        if self._secret:
            text = text.replace(self._secret, "[key]")
        text = " ".join(text.split())
        return text if len(text) <= _MAX_DETAIL else text[: _MAX_DETAIL - 1] + "…"

    def failure(
        self, status: int | None, code: str, message: str, retry_after: float | None = None
    ) -> ModelError:
        """The error that a vendor's status, code and message mean. Without a status the words decide."""
        kind, retryable = classify(status, f"{code} {message}")
        detail = self.safe(message or code or f"The provider answered {status}.")
        return kind(
            detail, provider=self.provider, status=status, retry_after=retry_after, retryable=retryable
        )

    async def _refusal(self, response: aiohttp.ClientResponse) -> ModelError:
        status = response.status
        if 300 <= status < 400:
            return BadModelRequest(
                self.safe(
                    f"{self.base_url} redirects to another address ({status}); set the base URL to that address."
                ),
                provider=self.provider,
                status=status,
            )
        try:
            raw = await self.body(response, MAX_ERROR_BYTES, _REFUSAL_SECONDS)
        except ModelError:
            raw = b""  # the status alone says enough
        code, message = error_words(raw)
        if status == 404 and not message:
            message = f"There is nothing at {response.url.path} ({self.base_url}); check the base URL."
        return self.failure(status, code, message, retry_after(response.headers))

    def translation(self, error: Exception, what: str, seconds: float) -> ModelError:
        """What aiohttp and the clock raise, as `UpstreamTimeout`, `UpstreamFailed` or `BadModelRequest`."""
        match error:
            case aiohttp.ConnectionTimeoutError():
                detail = f"No connection to {self.base_url} within {self.timeouts.connect:g} s."
                return UpstreamTimeout(detail, provider=self.provider)
            case TimeoutError():
                return UpstreamTimeout(
                    f"No {what} from {self.provider} for {seconds:g} s.", provider=self.provider
                )
            case PrivateAddress():
                where = self.base_url.partition("://")[2].partition("/")[0]
                detail = f"{error}. To allow it, name {where} (with its port) in VIBE_PRIVATE_TARGETS."
                return NotConfigured(detail, setting="VIBE_PRIVATE_TARGETS", provider=self.provider)
            case TooSlow():
                return UpstreamTimeout(f"Cannot reach {self.base_url}: {error}.", provider=self.provider)
            case NoSuchHost():
                return self.failed(f"Cannot reach {self.base_url}: {error}.")
            case EgressRefused():
                return BadModelRequest(
                    f"{self.base_url} may not be reached: {error}.", provider=self.provider
                )
            case aiohttp.ClientConnectorError():
                reason = error.os_error.strerror or str(error.os_error)
                return self.failed(f"Cannot reach {self.base_url}: {reason}.")
            case _:
                return self.failed(
                    f"The connection to {self.provider} broke: {str(error) or type(error).__name__}."
                )


def classify(status: int | None, words: str) -> tuple[type[ModelError], bool | None]:
    """The error that a status and a vendor's words mean: its class, and whether to retry where that differs from the class's own rule."""
    if status in (401, 403) and not _FLAGGED.search(words):
        return KeyRejected, None
    if status == 402 or (status in (None, 429) and _QUOTA.search(words)):
        return RateLimited, False
    if status == 429:
        return RateLimited, None
    if status in (None, 400, 404, 413, 422, 500):
        if _OVERFLOW.search(words) or (status == 413 and not _BUSY.search(words)):
            return ContextOverflow, None
        if _NO_MODEL.search(words) or (status == 404 and _NO_MODEL_404.search(words)):
            return ModelNotFound, None
    if status == 408:
        return UpstreamTimeout, None
    if status is None:
        if _BAD_KEY.search(words):
            return KeyRejected, None
        return (RateLimited if _BUSY.search(words) else UpstreamFailed), None
    return (BadModelRequest if 400 <= status < 500 else UpstreamFailed), None


class _Metadata(Struct):
    raw: Any = None
    provider_name: str | None = None


class ErrorBody(Struct):
    """The `error` object of OpenAI and those who follow it."""

    message: str | None = None
    code: str | int | None = None
    type: str | None = None
    metadata: _Metadata | None = None

    @property
    def status(self) -> int | None:
        """Some (OpenRouter) put the HTTP status of a failure in the middle of a stream into `code`."""
        code = int(self.code) if isinstance(self.code, str) and self.code.isdigit() else self.code
        return code if isinstance(code, int) and 400 <= code < 600 else None

    @property
    def words(self) -> tuple[str, str]:
        """Code and message; the message holds what the provider behind a gateway said."""
        message = self.message or ""
        if self.metadata and self.metadata.raw:
            message = f"{message}: {self.metadata.provider_name or 'upstream'}: {self.metadata.raw}"
        return f"{self.code or ''} {self.type or ''}".strip(), message


class _Refusal(Struct):
    error: ErrorBody | str | None = None
    message: str | None = None
    detail: Any = None


_decode_refusal = msgspec.json.Decoder(_Refusal).decode


def error_words(raw: bytes) -> tuple[str, str]:
    """Code and message of an error body of any shape; what is not JSON is no message."""
    try:
        refusal = _decode_refusal(raw)
    except msgspec.MsgspecError:
        return "", ""
    match refusal.error:
        case ErrorBody() as error:
            return error.words
        case str() as message:
            return "", message
        case None:
            return "", refusal.message or str(refusal.detail or "")


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that `Retry-After` (seconds or an HTTP date) or `retry-after-ms` ask to wait; None when they say nothing."""
    for name, unit in (("retry-after-ms", 0.001), ("Retry-After", 1.0)):
        value = headers.get(name, "").strip()
        with contextlib.suppress(ValueError):
            seconds = float(value) * unit
            if math.isfinite(seconds):
                return max(0.0, seconds)
        with contextlib.suppress(ValueError):
            moment = email.utils.parsedate_to_datetime(value)
            return max(0.0, moment.replace(tzinfo=moment.tzinfo or UTC).timestamp() - time.time())
    return None
