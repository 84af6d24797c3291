"""The wire of Standard Webhooks: what is signed, and one POST behind the egress guard."""

import base64
import hashlib
import hmac
import time
from collections.abc import Sequence
from typing import NamedTuple

import aiohttp

from backend import __version__
from backend.kit.clock import elapsed_ms
from backend.kit.db import storable
from backend.kit.egress import EgressRefused, GuardedConnector

_KEPT_CHARACTERS = 500
_READ_BYTES = 4 * _KEPT_CHARACTERS
_SECRET_PREFIX = "whsec_"


class Attempt(NamedTuple):
    """What became of one POST: `status` and the beginning of the answer, or why there is none."""

    status: int | None
    answer: str
    error: str
    took_ms: int

    @property
    def is_accepted(self) -> bool:
        """Whether the receiver has it."""
        return self.status is not None and 200 <= self.status < 300


def open_session(private_targets: frozenset[str], seconds: float) -> aiohttp.ClientSession:
    """The session for all receivers, each of which has so many seconds to answer; whoever opens it closes it."""
    return aiohttp.ClientSession(
        connector=GuardedConnector(private_targets),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=seconds),
    )


def sign(secrets: Sequence[str], id: str, timestamp: int, body: bytes) -> str:
    """The `webhook-signature`: one `v1,…` for each secret, parted by spaces."""
    signed = f"{id}.{timestamp}.".encode() + body
    return " ".join(f"v1,{_mac(secret, signed)}" for secret in secrets)


def _mac(secret: str, signed: bytes) -> str:
    key = base64.b64decode(secret.removeprefix(_SECRET_PREFIX))
    return base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()


async def post(session: aiohttp.ClientSession, url: str, secrets: Sequence[str], id: str, text: str) -> Attempt:
    """Send one event. Redirects are not followed: a receiver that moved has to be named anew. Never raises for what the receiver does."""
    body, timestamp, began = text.encode(), int(time.time()), time.perf_counter()
    headers = {
        "Content-Type": "application/json",
        "Accept-Encoding": "identity",
        "User-Agent": f"VIBE-AI/{__version__}",
        "webhook-id": id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": sign(secrets, id, timestamp, body),
    }
    try:
        async with session.post(url, data=body, headers=headers, allow_redirects=False) as response:
            answer = await _beginning(response)
            return Attempt(response.status, answer, _fault(response), elapsed_ms(began))
    except TimeoutError:
        error = f"There was no answer within {session.timeout.total:g} seconds."
    except EgressRefused as refused:
        error = f"{type(refused).__doc__} {refused}."
    except (aiohttp.ClientError, OSError) as failed:
        error = f"The receiver cannot be reached: {failed or type(failed).__name__}."
    return Attempt(None, "", storable(error)[:_KEPT_CHARACTERS], elapsed_ms(began))


def _fault(response: aiohttp.ClientResponse) -> str:
    if 200 <= response.status < 300:
        return ""
    if 300 <= response.status < 400:
        return "The receiver redirects, which is not followed: give the webhook the final address."
    return f"The receiver answered {response.status}."


async def _beginning(response: aiohttp.ClientResponse) -> str:
    """The first characters of an answer; the rest is not read."""
    read = bytearray()
    while len(read) < _READ_BYTES and (piece := await response.content.read(_READ_BYTES - len(read))):
        read += piece
    if not response.content.at_eof():
        response.close()
    return storable(read.decode(errors="replace"))[:_KEPT_CHARACTERS]
