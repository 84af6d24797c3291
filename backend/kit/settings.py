"""Every setting of the product, by its environment name, in one frozen class.

An empty environment is a valid one: what is not set is embedded, generated on first start, or off with its reason.
`.env.example` is generated from this class.
"""

import functools
import os
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

SignUpMode = Literal["open", "closed", "invitation"]


def default_data_dir() -> Path:
    """Where data lie when `VIBE_DATA_DIR` is not set: for root a system path, else the user's own."""
    if os.geteuid() == 0:
        return Path("/var/lib/vibe")
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "vibe"


class Settings(BaseSettings):
    """The process's settings, read once from the environment and from `.env` in the working directory."""

    model_config = SettingsConfigDict(env_file=".env", env_file_encoding="utf-8", extra="ignore", frozen=True, env_ignore_empty=True)

    # Data and secrets
    vibe_data_dir: Path = Field(default_factory=default_data_dir, description="Directory of all data that is not in Postgres.")
    vibe_secret_key: SecretStr | None = Field(None, description="Key that seals stored credentials; made on first start when absent.")
    vibe_public_url: str | None = Field(None, description="Address people reach the product under, e.g. https://vibe.example.org.")
    vibe_min_free_mb: int = Field(200, ge=0, description="Below this much free disk (MB) new work is refused.")

    # Database and auth
    database_url: SecretStr | None = Field(None, description="Postgres 15+ with pgvector; embedded when absent.")
    supabase_url: str | None = Field(None, description="Turns on Supabase auth.")
    supabase_service_role_key: SecretStr | None = Field(None, description="Supabase service key.")
    supabase_anon_key: SecretStr | None = Field(None, description="Supabase anonymous key.")
    supabase_jwt_secret: SecretStr | None = Field(None, description="Supabase's legacy JWT secret (HS256), for projects without signing keys.")
    vibe_smtp_url: SecretStr | None = Field(None, description="Mail server, e.g. smtp://user:password@mail.example.org:587 or smtps://….")
    vibe_mail_from: str = Field("VIBE AI <vibe@localhost>", description="Whom mails come from.")

    # People
    vibe_sign_up: SignUpMode = Field(
        "closed",
        description="Who may make a person of himself: everybody, who has an invitation, or nobody. Links of invitations that an owner made always work.",
    )
    vibe_rate_limit_per_minute: int = Field(
        1200, ge=0, description="Requests a minute that one key or session may make, and ten times that one account; 0 turns limits off."
    )

    # Redis
    redis_url: SecretStr | None = Field(None, description="Redis or Valkey; embedded when absent.")
    redis_host: str | None = Field(None, description="Instead of REDIS_URL: the host.")
    redis_port: int = Field(6379, ge=1, le=65535, description="With REDIS_HOST: the port.")

    # Models
    openai_api_key: SecretStr | None = Field(None, description="OpenAI.")
    openai_base_url: str = Field("https://api.openai.com/v1", description="OpenAI's API, or a proxy of it.")
    openrouter_api_key: SecretStr | None = Field(None, description="OpenRouter.")
    openrouter_base_url: str = Field("https://openrouter.ai/api/v1", description="OpenRouter's API, or a proxy of it.")
    custom_base_url: str | None = Field(None, description="Any OpenAI-compatible server, e.g. http://127.0.0.1:8000/v1.")
    custom_api_key: SecretStr | None = Field(None, description="Key of the OpenAI-compatible server, if it wants one.")
    ollama_base_url: str = Field("http://127.0.0.1:11434", description="Ollama, probed when Settings opens.")
    vibe_default_model: str | None = Field(None, description="Model of agents that name none, e.g. openai/gpt-4o.")
    vibe_private_targets: str = Field(
        "127.0.0.1:11434,localhost:11434",
        description="host:port pairs, comma-separated, that the egress guard lets through although they are private.",
    )

    # Runs
    vibe_max_runs_per_worker: int = Field(1200, ge=1, description="Live runs one worker holds at most.")
    vibe_max_runs_per_account: int = Field(1200, ge=1, description="Live runs one account has at most, over all workers.")
    vibe_lease_seconds: float = Field(6.0, gt=0.5, description="How long a run stays with a worker that no longer answers.")
    vibe_model_first_byte_seconds: float = Field(120.0, gt=0, description="How long a model may take to begin its answer.")
    vibe_model_idle_seconds: float = Field(60.0, gt=0, description="How long a model may be silent in the middle of an answer.")

    # Sandbox
    vibe_sandbox: Literal["bubblewrap", "off"] = Field("bubblewrap", description="Where tools run; `off` turns them off.")
    vibe_max_sandboxes: int = Field(30, ge=1, description="Live sandboxes one worker holds at most.")
    vibe_tidy_seconds: float = Field(3600.0, gt=0, description="How often workspaces and files of threads that were deleted a week ago are removed.")
    daytona_api_key: SecretStr | None = Field(None, description="Daytona.")
    daytona_server_url: str | None = Field(None, description="Daytona's API address.")

    # Services
    vibe_max_attachment_mb: int = Field(25, ge=1, description="Size (MB) that a file sent with a message may have.")
    vibe_webhook_seconds: float = Field(10.0, gt=0, description="How long the receiver of a webhook may take to answer.")

    # Processes
    vibe_host: str = Field("127.0.0.1", description="Address the API binds.")
    vibe_port: int = Field(8700, ge=0, le=65535, description="Port the API binds.")
    vibe_workers: int = Field(1, ge=1, description="Worker processes `vibe up` starts.")
    vibe_apis: int = Field(1, ge=1, description="API processes `vibe up` starts; they share the printed address.")
    vibe_log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least level logged.")

    @field_validator("openai_base_url", "openrouter_base_url", "custom_base_url", "ollama_base_url", "vibe_public_url", "supabase_url")
    @classmethod
    def _no_trailing_slash(cls, value: str | None) -> str | None:
        return value.rstrip("/") if value else value

    @property
    def redis_dsn(self) -> str | None:
        """Address of Redis or Valkey, or None when the embedded one is to be used."""
        if self.redis_url:
            return self.redis_url.get_secret_value()
        return f"redis://{self.redis_host}:{self.redis_port}/0" if self.redis_host else None

    @property
    def private_targets(self) -> frozenset[str]:
        """`host:port` pairs that the egress guard lets through although they are private."""
        pairs = {pair.strip() for pair in self.vibe_private_targets.split(",") if pair.strip()}
        return frozenset(pairs)


@functools.cache
def settings() -> Settings:
    """This process's settings."""
    return Settings()  # pyright: ignore
