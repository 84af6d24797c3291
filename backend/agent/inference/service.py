"""What an account sets about models: keys and addresses (sealed), prices, the default; and what can be chosen because of it."""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal
from uuid import UUID

from msgspec import structs
from redis.asyncio import Redis

from backend.accounts import service as accounts
from backend.accounts.service import Caller
from backend.agent import repository
from backend.agent.inference.access import environment_credentials
from backend.agent.inference.base import ModelInfo
from backend.agent.inference.catalogue import BY_NAME, VENDORS, Vendor
from backend.agent.inference.credentials import open_key, seal_key
from backend.agent.inference.errors import ModelError, ModelNotFound, NotConfigured
from backend.agent.inference.registry import Credential, Model, Models, split
from backend.agent.schemas import (
    InferenceSettings,
    ModelPrice,
    ModelView,
    ProviderStatus,
    ProviderTest,
    ProviderUpdate,
)
from backend.kit import limits
from backend.kit.clock import now
from backend.kit.db import Database, Row, Session
from backend.kit.egress import EgressRefused, check_url
from backend.kit.problems import InvalidPayload, InvalidRequest, NotFound
from backend.kit.seal import Sealer
from backend.kit.settings import Settings

log = logging.getLogger(__name__)

_PROBE_SECONDS = 1.5
_LISTING_SECONDS = 10.0
_TEST_SECONDS = 30.0


class KeyWanted(InvalidRequest):
    """Give the key together with the new address"""


class NotSettable(InvalidRequest):
    """There is nothing to set for this provider"""


@dataclass(frozen=True)
class Desk:
    """What answers for models need besides the database: who is asking and the process's way to providers."""

    settings: Settings
    sealer: Sealer
    models: Models
    account_id: UUID


@dataclass(frozen=True)
class Known:
    """What is known of a provider for an account: what it stored, what the environment says, and what holds of both."""

    vendor: Vendor
    stored: Row | None
    environment: Credential
    given: bool  # whether the environment says anything itself

    @property
    def source(self) -> Literal["none", "environment", "account", "built-in"]:
        """Where the credential comes from."""
        if self.stored is not None:
            return "account"
        if self.vendor.wire == "scripted":
            return "built-in"
        return "environment" if self.given else "none"

    @property
    def base_url(self) -> str:
        """The address that is used; empty when there is none."""
        stored = self.stored["base_url"] if self.stored else None
        return stored or self.environment.base_url or self.vendor.default_base_url or ""

    @property
    def configured(self) -> bool:
        """Whether it has all it needs. Whether somebody answers is another question."""
        has_key = bool(self.stored["sealed"]) if self.stored else bool(self.environment.api_key)
        needs_address = self.vendor.wire != "scripted"
        return (has_key or not self.vendor.key_required) and (bool(self.base_url) or not needs_address)

    def credential(self, desk: Desk) -> Credential:
        """What is sent. The environment's key never goes to an address that an account chose."""
        if self.stored is None:
            return self.environment
        sealed = self.stored["sealed"]
        key = open_key(desk.sealer, desk.account_id, self.vendor.name, sealed) if sealed else None
        return Credential(api_key=key, base_url=self.base_url or None)


async def known(session: Session, desk: Desk) -> dict[str, Known]:
    """Every provider as it stands for the account."""
    stored = {row["provider"]: row for row in await repository.credentials(session)}
    environment = environment_credentials(desk.settings)
    said = desk.settings.model_fields_set
    found = {}
    for vendor in VENDORS:
        settings = [name.lower() for name in (vendor.key_setting, vendor.base_url_setting) if name]
        wanted = settings[:1] if vendor.key_required else settings
        given = any(name in said and getattr(desk.settings, name) for name in wanted)
        found[vendor.name] = Known(
            vendor, stored.get(vendor.name), environment.get(vendor.name, Credential()), given
        )
    return found


def credentials(known: Mapping[str, Known], desk: Desk) -> dict[str, Credential]:
    """What `Models.get_model` needs to speak for the account."""
    return {name: one.credential(desk) for name, one in known.items() if one.stored is not None}


# Providers --------------------------------------------------------------------------------------------------------------


async def providers(database: Database, desk: Desk) -> list[ProviderStatus]:
    """Every provider as it stands; a local one is asked whether it is there, now."""
    async with database.transaction(desk.account_id) as session:
        found = await known(session, desk)
    return list(await asyncio.gather(*(_status(one, desk) for one in found.values())))


async def _status(one: Known, desk: Desk) -> ProviderStatus:
    status = _as_stored(one)
    if one.vendor.wire != "ollama":
        return status
    test = await _try(one.vendor, one.credential(desk), desk, _PROBE_SECONDS)
    update = {
        "tested_at": now(),
        "test_ok": test.ok,
        "test_detail": test.detail,
        "configured": test.ok or one.source != "none",
    }
    return status.model_copy(update=update)


def _as_stored(one: Known) -> ProviderStatus:
    stored: Mapping[str, Any] = one.stored or {}
    return ProviderStatus(
        name=one.vendor.name,
        title=one.vendor.title,
        kind=one.vendor.kind,
        needs_key=one.vendor.key_required,
        takes_base_url=one.vendor.base_url_setting is not None,
        configured=one.configured,
        source=one.source,
        hint=stored.get("hint", ""),
        base_url=one.base_url,
        tested_at=stored.get("tested_at"),
        test_ok=stored.get("test_ok"),
        test_detail=stored.get("test_detail", ""),
    )


async def set_provider(
    session: Session, desk: Desk, who: Caller, name: str, update: ProviderUpdate
) -> ProviderStatus:
    """Store a provider's key or address; what is left out stays. Raises `KeyWanted`, `NotSettable`, `InvalidPayload`."""
    one = (await known(session, desk))[_vendor(name).name]
    new = _updated(one, update, desk)
    sealed = seal_key(desk.sealer, desk.account_id, name, new.api_key) if new.api_key else None
    hint = new.api_key[-4:] if new.api_key and len(new.api_key) >= 12 else ""
    await repository.save_credential(session, name, sealed, new.base_url, hint)
    await accounts.audit(
        session,
        who.user_id,
        "provider.set",
        name,
        {"base_url": new.base_url, "key": update.api_key is not None},
    )
    return _as_stored((await known(session, desk))[name])


def _updated(one: Known, update: ProviderUpdate, desk: Desk) -> Credential:
    """The account's own credential after an update."""
    vendor = one.vendor
    if vendor.wire == "scripted" or (vendor.wire == "ollama" and update.api_key is not None):
        raise NotSettable(f"{vendor.title} takes no key.")
    if update.base_url and vendor.base_url_setting is None:
        raise NotSettable(f"{vendor.title} has one address only.")
    stored = one.credential(desk) if one.stored is not None else Credential()
    base_url = one.stored["base_url"] if one.stored else None
    if update.base_url is not None:
        base_url = _address(update.base_url, desk) if update.base_url.strip() else None
    key = update.api_key.strip() if update.api_key is not None else stored.api_key
    moved = (base_url or one.environment.base_url or vendor.default_base_url or "") != one.base_url
    if stored.api_key and update.api_key is None and moved:
        raise KeyWanted("A stored key is sent to the address it was stored with and to no other.")
    if not key and not base_url:
        raise NotSettable("Send a key, or an address.")
    return Credential(api_key=key or None, base_url=base_url)


def _address(text: str, desk: Desk) -> str:
    text = text.strip().rstrip("/")
    try:
        url = check_url(text, desk.settings.private_targets)
    except EgressRefused as refused:
        message = f"{str(refused)[:1].upper()}{str(refused)[1:]}."
        error = {"loc": "base_url", "message": message}
        raise InvalidPayload(message, errors=[error], setting="VIBE_PRIVATE_TARGETS") from None
    if url.query_string or url.fragment:
        message = "The address has no ? and no #."
        raise InvalidPayload(message, errors=[{"loc": "base_url", "message": message}])
    return text


async def remove_provider(session: Session, who: Caller, name: str) -> None:
    """Forget what the account stored for a provider."""
    if not await repository.delete_credential(session, _vendor(name).name):
        raise NotFound()
    await accounts.audit(session, who.user_id, "provider.removed", name)


async def test_provider(
    database: Database, redis: Redis, desk: Desk, name: str, update: ProviderUpdate
) -> ProviderTest:
    """A real call with what is given, or with what is stored when nothing is. What is stored remembers the outcome."""
    await limits.hit(redis, f"provider-test:{desk.account_id}", limit=30, seconds=60)
    vendor = _vendor(name)
    async with database.transaction(desk.account_id) as session:
        one = (await known(session, desk))[vendor.name]
    given = update.api_key is not None or bool(update.base_url)
    credential = one.credential(desk)
    if given:
        credential = _updated(one, update, desk)
        credential = Credential(credential.api_key, credential.base_url or one.environment.base_url)
    test = await _try(vendor, credential, desk, _TEST_SECONDS)
    if not given and one.stored is not None:
        async with database.transaction(desk.account_id) as session:
            await repository.note_test(session, name, test.ok, test.detail)
    return test


async def _try(vendor: Vendor, credential: Credential, desk: Desk, seconds: float) -> ProviderTest:
    began = asyncio.get_running_loop().time()
    try:
        async with asyncio.timeout(seconds):
            trial = await desk.models.test(vendor.name, credential)
    except TimeoutError:
        took = round((asyncio.get_running_loop().time() - began) * 1000)
        return ProviderTest(
            ok=False, detail=f"No answer within {seconds:g} seconds.", latency_ms=took, models=[]
        )
    detail = f"{trial.models} models." if trial.ok else trial.problem or "It failed."
    return ProviderTest(ok=trial.ok, detail=detail, latency_ms=trial.latency_ms, models=list(trial.names))


def _vendor(name: str) -> Vendor:
    if name not in BY_NAME:
        raise NotFound("There is no such provider.")
    return BY_NAME[name]


# Models -----------------------------------------------------------------------------------------------------------------


def ready(
    models: Models, name: str, own: Mapping[str, Credential], prices: Mapping[str, Sequence[int | None]]
) -> Model:
    """The model of a full name with an account's keys and prices (input, output, cached). Raises as `Models.get_model` does."""
    if not name:
        raise NotConfigured(
            "No model is chosen. Choose one for the agent, or a default in Settings.", setting="VIBE_DEFAULT_MODEL"
        )
    model = models.get_model(name, own)
    info = model.info
    if name in prices:
        given = dict(zip(("input_price", "output_price", "cached_price"), prices[name], strict=True))
        info = structs.replace(info, **given)
    elif model.kind in ("demo", "local") and info.input_price is None:
        info = structs.replace(info, input_price=0, output_price=0, cached_price=0)
    return model.priced(info)


async def chosen(session: Session, desk: Desk, name: str | None) -> Model:
    """A model ready to be asked in the account's name; without a name its default. Raises `ModelError`."""
    name = name or (await read_settings(session, desk.settings)).default_model or ""
    own = credentials(await known(session, desk), desk)
    prices = {
        row["model"]: (row["input_price"], row["output_price"], row["cached_price"])
        for row in await repository.prices(session)
    }
    return ready(desk.models, name, own, prices)


async def models(database: Database, desk: Desk) -> list[ModelView]:
    """Models that can be chosen now, of every provider that is configured and answers.

    A provider of the account's that does not answer says so in its status; one that was never set up is not missed.
    """
    async with database.transaction(desk.account_id) as session:
        found = await known(session, desk)
        prices = {row["model"]: row for row in await repository.prices(session)}
    ready = [one for one in found.values() if one.configured]
    own = credentials(found, desk)
    listings = await asyncio.gather(*(_listing(one, own, desk, database) for one in ready))
    return [
        _view(one.vendor, info, prices)
        for one, listing in zip(ready, listings, strict=True)
        for info in listing
    ]


async def _listing(
    one: Known, own: Mapping[str, Credential], desk: Desk, database: Database
) -> list[ModelInfo]:
    seconds = _PROBE_SECONDS if one.source == "none" else _LISTING_SECONDS
    try:
        async with asyncio.timeout(seconds):
            return await desk.models.models(one.vendor.name, own)
    except (ModelError, TimeoutError) as error:
        detail = error.detail if isinstance(error, ModelError) else f"No answer within {seconds:g} seconds."
    if one.source != "none":
        log.warning(
            "a provider did not list its models", extra={"provider": one.vendor.name, "error": detail}
        )
    if one.stored is not None:
        async with database.transaction(desk.account_id) as session:
            await repository.note_test(session, one.vendor.name, False, detail)
    return []


def _view(vendor: Vendor, info: ModelInfo, prices: Mapping[str, Row]) -> ModelView:
    name = f"{vendor.name}/{info.id}"
    own = prices.get(name)
    shown = (info.input_price, info.output_price, info.cached_price)
    source: Literal["account", "provider", "free", "unknown"] = (
        "unknown" if info.input_price is None else "provider"
    )
    if own is not None:
        shown, source = (own["input_price"], own["output_price"], own["cached_price"]), "account"
    elif info.input_price == 0 and info.output_price == 0:
        source = "free"
    return ModelView(
        name=name,
        provider=vendor.name,
        kind=vendor.kind,
        title=vendor.title if vendor.wire == "scripted" else info.id,
        context_tokens=info.context_tokens,
        supports_tools=info.supports_tools,
        input_price=shown[0],
        output_price=shown[1],
        cached_price=shown[2],
        price_source=source,
    )


async def set_price(session: Session, who: Caller, price: ModelPrice) -> None:
    """Say what a model costs; three times unknown forgets it."""
    _require_model(price.model)
    await repository.save_price(
        session, price.model, price.input_price, price.output_price, price.cached_price
    )
    await accounts.audit(session, who.user_id, "price.set", price.model, price.model_dump(exclude={"model"}))


async def read_settings(session: Session, settings: Settings) -> InferenceSettings:
    """The default model: the account's, else the environment's."""
    return InferenceSettings(
        default_model=await repository.default_model(session) or settings.vibe_default_model
    )


async def save_settings(session: Session, new: InferenceSettings, settings: Settings) -> InferenceSettings:
    """Choose the default model; null goes back to the environment's."""
    if new.default_model is not None:
        _require_model(new.default_model)
    await repository.set_default_model(session, new.default_model)
    return await read_settings(session, settings)


def _require_model(name: str) -> None:
    try:
        split(name)
    except ModelNotFound as error:
        raise InvalidRequest(error.detail) from None
