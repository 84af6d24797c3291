"""A receiver of webhooks, as strict as Standard Webhooks asks: it verifies each signature by the published algorithm, written out here."""

import base64
import hashlib
import hmac
import json
import time
from typing import Any

from aiohttp import web

from tests.wire.server import Refused, Reply, WireServer, refusal

_TOLERANCE_SECONDS = 300


def verify(secret: str, headers: dict[str, str], body: bytes) -> dict[str, Any]:
    """The event in a delivery that was signed with this secret. Raises `Refused`."""
    missing = [name for name in ("webhook-id", "webhook-timestamp", "webhook-signature") if not headers.get(name)]
    if missing:
        raise Refused(400, {"error": f"no {missing}"})
    if headers.get("content-type") != "application/json":
        raise Refused(415, {"error": "not JSON"})
    if abs(time.time() - int(headers["webhook-timestamp"])) > _TOLERANCE_SECONDS:
        raise Refused(400, {"error": "too old or too new"})
    if not secret.startswith("whsec_") or not 24 <= len(key := base64.b64decode(secret[6:], validate=True)) <= 64:
        raise Refused(500, {"error": "the secret is not one"})
    signed = b".".join((headers["webhook-id"].encode(), headers["webhook-timestamp"].encode(), body))
    expected = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    versions = [part.partition(",") for part in headers["webhook-signature"].split(" ")]
    if not any(version == "v1" and hmac.compare_digest(given, expected) for version, _, given in versions):
        raise Refused(401, {"error": "wrong signature"})
    event: dict[str, Any] = json.loads(body)
    if set(event) != {"type", "timestamp", "data"} or not isinstance(event["data"], dict):
        raise Refused(400, {"error": f"members {sorted(event)}"})
    return event


class WebhookServer(WireServer):
    """Plays what it is given, then accepts. What arrives is verified first; `sent` holds each event with its `id`."""

    def __init__(self) -> None:
        super().__init__()
        self.secret = ""
        self.refused: list[Any] = []
        self.private_calls = 0

    def routes(self) -> list[web.RouteDef]:
        return [web.post("/hook", self._receive), web.route("*", "/private", self._private)]

    async def _receive(self, request: web.Request) -> web.StreamResponse:
        headers = {name.lower(): value for name, value in request.headers.items()}
        try:
            event = verify(self.secret, headers, await request.read())
        except Refused as refused:
            self.refused.append(str(refused))
            return await self.respond(request, refused.reply)
        self.headers.append(headers)
        self.sent.append(event | {"id": headers["webhook-id"]})
        return await self.respond(request, self.replies.popleft() if self.replies else Reply([b"thanks"], 200, "text/plain"))

    async def _private(self, request: web.Request) -> web.StreamResponse:
        self.private_calls += 1
        return await self.respond(request, refusal(200, {}))
