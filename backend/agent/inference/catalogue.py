"""The providers the product knows, and what is particular about each, as data."""

import re
from typing import Literal

from msgspec import Struct

from backend.agent.inference.base import Kind, ModelInfo

WireName = Literal["openai", "ollama", "scripted"]


class Vendor(Struct, frozen=True):
    """One way to reach models. `key_setting` and `base_url_setting` name the environment's variables."""

    name: str
    title: str
    kind: Kind
    wire: WireName
    default_base_url: str | None = None
    base_url_setting: str | None = None
    key_setting: str | None = None
    key_required: bool = False
    example: str = ""
    # Quirks of the OpenAI wire.
    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    fixed_temperature: str | None = None  # models (a pattern from the name's start) that refuse a temperature
    listed: str | None = None  # the models of the listing (a pattern from the name's start) that chat
    not_listed: str | None = None  # and of these the ones that do not (a pattern anywhere)
    key_check: str | None = None  # a path that needs the key, where the listing of models needs none
    request_id_header: str | None = None
    local_on_loopback: bool = False  # what runs on this machine counts as a local model

    def takes_temperature(self, model: str) -> bool:
        return self.fixed_temperature is None or re.match(self.fixed_temperature, model) is None

    def lists(self, model: str) -> bool:
        if self.listed is not None and re.match(self.listed, model) is None:
            return False
        return self.not_listed is None or re.search(self.not_listed, model) is None


VENDORS: tuple[Vendor, ...] = (
    Vendor(
        name="openai",
        title="OpenAI",
        kind="centralized",
        wire="openai",
        default_base_url="https://api.openai.com/v1",
        base_url_setting="OPENAI_BASE_URL",
        key_setting="OPENAI_API_KEY",
        key_required=True,
        example="openai/gpt-4o",
        max_tokens_field="max_completion_tokens",
        fixed_temperature=r"o\d|gpt-5(?!-chat)",
        listed=r"gpt-|chatgpt-|o\d|ft:",
        not_listed=r"audio|realtime|tts|transcribe|image|instruct|search|embedding",
        request_id_header="X-Client-Request-Id",
    ),
    Vendor(
        name="openrouter",
        title="OpenRouter",
        kind="centralized",
        wire="openai",
        default_base_url="https://openrouter.ai/api/v1",
        base_url_setting="OPENROUTER_BASE_URL",
        key_setting="OPENROUTER_API_KEY",
        key_required=True,
        example="openrouter/openai/gpt-4o",
        key_check="/key",
    ),
    Vendor(
        name="custom",
        title="OpenAI-compatible server",
        kind="centralized",
        wire="openai",
        base_url_setting="CUSTOM_BASE_URL",
        key_setting="CUSTOM_API_KEY",
        example="custom/my-model",
        local_on_loopback=True,
    ),
    Vendor(
        name="ollama",
        title="Ollama",
        kind="local",
        wire="ollama",
        default_base_url="http://127.0.0.1:11434",
        base_url_setting="OLLAMA_BASE_URL",
        example="ollama/llama3.2:3b",
    ),
    Vendor(name="scripted", title="Demo model, no AI", kind="demo", wire="scripted", example="scripted/demo"),
)

BY_NAME: dict[str, Vendor] = {vendor.name: vendor for vendor in VENDORS}

# OpenAI's listing tells no sizes. Context and longest answer in tokens, by the start of the name; the longest start wins.
# Prices are not written here: they change, and an old price is worse than an unknown one.
_OPENAI_SIZES: dict[str, tuple[int, int]] = {
    "gpt-3.5-turbo": (16_385, 4_096),
    "gpt-4-turbo": (128_000, 4_096),
    "gpt-4o": (128_000, 16_384),
    "gpt-4.1": (1_047_576, 32_768),
    "gpt-5": (400_000, 128_000),
    "gpt-5-chat": (128_000, 16_384),
    "o1": (200_000, 100_000),
    "o3": (200_000, 100_000),
    "o4-mini": (200_000, 100_000),
}


def known(vendor: str, model: str) -> ModelInfo:
    """What is known of a model without asking anyone."""
    if vendor == "openai":
        starts = [start for start in _OPENAI_SIZES if model.startswith(start)]
        if starts:
            context, longest = _OPENAI_SIZES[max(starts, key=len)]
            return ModelInfo(model, context_tokens=context, max_output_tokens=longest, supports_tools=True)
    return ModelInfo(model)
