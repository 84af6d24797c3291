"""From a model's name to something that answers: `openai/gpt-4o`, `openrouter/openai/gpt-4o`, `ollama/llama3.2:3b`, `scripted/demo`."""

import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence

import aiohttp
from msgspec import Struct, structs

from backend.agent.inference.base import (
    ChatMessage,
    Completed,
    Kind,
    ModelEvent,
    ModelInfo,
    ModelRequest,
    Provider,
    ToolSpec,
)
from backend.agent.inference.catalogue import BY_NAME, VENDORS, Vendor, known
from backend.agent.inference.errors import ModelError, ModelNotFound, NotConfigured, UpstreamFailed
from backend.agent.inference.providers.http import DEFAULT_TIMEOUTS, Beat, Timeouts
from backend.agent.inference.providers.ollama import Ollama
from backend.agent.inference.providers.openai import OpenAICompatible
from backend.agent.inference.providers.scripted import Scripted

_MAX_PROVIDERS = 256
_LISTING_SECONDS = 600.0


class Credential(Struct, frozen=True):
    """What an account (or the environment) has for a provider. Printing it shows no key."""

    api_key: str | None = None
    base_url: str | None = None

    def __repr__(self) -> str:
        return f"Credential(api_key={'set' if self.api_key else None}, base_url={self.base_url!r})"


class Trial(Struct, frozen=True):
    """What trying a provider gave; `problem` says what to do. `names` are its models' own names."""

    ok: bool
    models: int = 0
    names: tuple[str, ...] = ()
    latency_ms: int = 0
    problem: str | None = None


class Model:
    """One model, ready to be asked."""

    def __init__(self, provider: Provider, info: ModelInfo) -> None:
        self._provider = provider
        self.info = info

    @property
    def name(self) -> str:
        """With the provider's name before it."""
        return f"{self.provider}/{self.info.id}"

    @property
    def provider(self) -> str:
        return self._provider.name

    def priced(self, info: ModelInfo) -> "Model":
        """The same model, with what an account knows of it."""
        return Model(self._provider, info)

    @property
    def kind(self) -> Kind:
        return self._provider.kind

    def stream(
        self,
        messages: Sequence[ChatMessage],
        tools: Sequence[ToolSpec] = (),
        *,
        temperature: float | None = None,
        max_tokens: int | None = None,
        request_id: str = "",
    ) -> AsyncGenerator[ModelEvent, None]:
        """Ask; the last event is `Completed`. Raises `ModelError`."""
        return self._provider.stream(
            ModelRequest(self.info.id, messages, tools, temperature, max_tokens, request_id)
        )

    def answer(self, request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
        """Ask what a request says, whichever model it names. Raises `ModelError`."""
        return self._provider.stream(structs.replace(request, model=self.info.id))

    async def generate(
        self,
        messages: Sequence[ChatMessage],
        tools: Sequence[ToolSpec] = (),
        *,
        temperature: float | None = None,
        max_tokens: int | None = None,
        request_id: str = "",
    ) -> Completed:
        """Ask and wait for the whole answer. Raises `ModelError`."""
        async for event in self.stream(
            messages, tools, temperature=temperature, max_tokens=max_tokens, request_id=request_id
        ):
            if isinstance(event, Completed):
                return event
        raise UpstreamFailed("The stream ended without an answer.", provider=self.provider)


class Models:
    """The process's way to all models: one HTTP session, and provider objects that are kept between calls."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        *,
        timeouts: Timeouts = DEFAULT_TIMEOUTS,
        credentials: Mapping[str, Credential] | None = None,
        demo_pace: float | None = None,
    ) -> None:
        """`credentials` are the environment's, used for what a caller brings nothing; the session stays the caller's to close."""
        self._session = session
        self._timeouts = timeouts
        self._beat = Beat()
        self._credentials = dict(credentials or {})
        self._scripted = Scripted(pace=demo_pace, timeouts=timeouts)
        self._providers: OrderedDict[tuple[str, str, str], _Kept] = OrderedDict()

    def get_model(self, name: str, credentials: Mapping[str, Credential] | None = None) -> Model:
        """The model of a full name. Raises `ModelNotFound` for an unknown provider, `NotConfigured` for one that is not set up.

        Nobody is asked: `info` is what the catalogue or the last listing says.
        """
        vendor, model = split(name)
        kept = self._kept(vendor, credentials)
        return Model(kept.provider, kept.listing.get(model) or known(vendor.name, model))

    def provider(self, name: str, credentials: Mapping[str, Credential] | None = None) -> Provider:
        """The provider of a name. Raises as `get_model` does."""
        return self._kept(_vendor(name), credentials).provider

    async def models(self, name: str, credentials: Mapping[str, Credential] | None = None) -> list[ModelInfo]:
        """What a provider offers, at most ten minutes old. Raises `ModelError`."""
        kept = self._kept(_vendor(name), credentials)
        if kept.listed_at is None or time.monotonic() - kept.listed_at > _LISTING_SECONDS:
            kept.listing = {info.id: info for info in await kept.provider.models()}
            kept.listed_at = time.monotonic()
        return list(kept.listing.values())

    async def test(self, name: str, credential: Credential) -> Trial:
        """Try a provider with a credential before it is saved."""
        began = time.monotonic()
        try:
            provider = self._made(_vendor(name), credential)
            models = await provider.models()
            if isinstance(provider, OpenAICompatible):
                await provider.check()
        except ModelError as error:
            return Trial(ok=False, latency_ms=_ms_since(began), problem=error.detail)
        names = tuple(info.id for info in models)
        return Trial(ok=True, models=len(models), names=names, latency_ms=_ms_since(began))

    async def aclose(self) -> None:
        """Give back what the providers opened."""
        for kept in self._providers.values():
            await kept.provider.aclose()
        self._providers.clear()

    def _kept(self, vendor: Vendor, credentials: Mapping[str, Credential] | None) -> "_Kept":
        environment = self._credentials.get(vendor.name) or Credential()
        own = (credentials or {}).get(vendor.name)
        # An account's key goes to the operator's address when it names none; the operator's key never to the account's.
        credential = Credential(own.api_key, own.base_url or environment.base_url) if own else environment
        key = (vendor.name, credential.base_url or "", credential.api_key or "")
        kept = self._providers.get(key)
        if kept is None:
            kept = self._providers[key] = _Kept(self._made(vendor, credential))
            if len(self._providers) > _MAX_PROVIDERS:
                self._providers.popitem(last=False)
        self._providers.move_to_end(key)
        return kept

    def _made(self, vendor: Vendor, credential: Credential) -> Provider:
        if vendor.wire == "scripted":
            return self._scripted
        base_url = credential.base_url or vendor.default_base_url
        if base_url is None:
            raise _missing(vendor, "an address", vendor.base_url_setting)
        if vendor.wire == "ollama":
            return Ollama(self._session, base_url=base_url, timeouts=self._timeouts, beat=self._beat)
        if vendor.key_required and not credential.api_key:
            raise _missing(vendor, "a key", vendor.key_setting)
        return OpenAICompatible(
            vendor, self._session, base_url=base_url, api_key=credential.api_key, timeouts=self._timeouts, beat=self._beat
        )


class _Kept:
    """A provider object and its last listing."""

    def __init__(self, provider: Provider) -> None:
        self.provider = provider
        self.listing: dict[str, ModelInfo] = {}
        self.listed_at: float | None = None


def split(name: str) -> tuple[Vendor, str]:
    """Provider and model of a full name. Raises `ModelNotFound` with what to write instead."""
    provider, slash, model = name.partition("/")
    if not slash or not model:
        raise ModelNotFound(
            f"{name!r} is no model's full name: write provider/model, for example {_examples()}."
        )
    return _vendor(provider), model


def _vendor(name: str) -> Vendor:
    vendor = BY_NAME.get(name)
    if vendor is None:
        raise ModelNotFound(f"There is no provider {name!r}. Model names look like {_examples()}.")
    return vendor


def _examples() -> str:
    return ", ".join(vendor.example for vendor in VENDORS)


def _missing(vendor: Vendor, what: str, setting: str | None) -> NotConfigured:
    setting = setting or ""
    return NotConfigured(
        f"{vendor.title} needs {what}: add it in Settings or set {setting}.",
        setting=setting,
        provider=vendor.name,
    )


def _ms_since(began: float) -> int:
    return round((time.monotonic() - began) * 1000)


_process: Callable[[str], Model] | None = None


def use(models: Models) -> None:
    """Make these the models of the process's own `get_model`."""
    global _process
    _process = models.get_model


def get_model(name: str) -> Model:
    """A model with the environment's credentials. Raises as `Models.get_model` does."""
    if _process is None:
        raise NotConfigured(
            "This process has no access to models yet: call use(Models(session)) first.", setting=""
        )
    return _process(name)
