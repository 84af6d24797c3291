"""A process's way to models: one HTTP session behind the egress guard, and the environment's credentials."""

import aiohttp

from backend.agent.inference.providers.http import Timeouts
from backend.agent.inference.providers.http import open_session as open_guarded_session
from backend.agent.inference.registry import Credential, Models
from backend.kit.settings import Settings

_CONNECT_SECONDS = 10.0


def open_session(settings: Settings) -> aiohttp.ClientSession:
    """The session that providers share, behind the egress guard; whoever opens it closes it."""
    return open_guarded_session(settings.private_targets)


def environment_credentials(settings: Settings) -> dict[str, Credential]:
    """What the environment has for each provider."""

    def plain(secret: object) -> str | None:
        return secret.get_secret_value() if hasattr(secret, "get_secret_value") else None

    return {
        "openai": Credential(plain(settings.openai_api_key), settings.openai_base_url),
        "openrouter": Credential(plain(settings.openrouter_api_key), settings.openrouter_base_url),
        "custom": Credential(plain(settings.custom_api_key), settings.custom_base_url),
        "ollama": Credential(None, settings.ollama_base_url),
    }


def open_models(settings: Settings, session: aiohttp.ClientSession) -> Models:
    """All models, over this session."""
    timeouts = Timeouts(
        _CONNECT_SECONDS, settings.vibe_model_first_byte_seconds, settings.vibe_model_idle_seconds
    )
    return Models(session, timeouts=timeouts, credentials=environment_credentials(settings))
