"""An agent's configuration: what a version freezes, what a draft edits, what the YAML says.

The keys and their meaning are the overview's, plus `routing, limits, permissions, mcp, wallet`. Parts that the product
cannot do yet are kept, versioned and shown as off with the reason.
"""

import hashlib
from typing import Annotated, Any, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

Permission = Literal["allow", "ask", "deny"]
NETWORK = "network"  # the one key of `permissions` that is no action and no tool: what the sandbox may reach
Name = Annotated[str, StringConstraints(min_length=1, max_length=255, strip_whitespace=True)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ModelChoice(_Part):
    """Which model answers. Without a name the account's default model does."""

    provider: str = Field("", max_length=60, description="Provider, e.g. openai, openrouter, ollama, custom, scripted.")
    name: str = Field("", max_length=200, description="The provider's name of the model.")
    temperature: float | None = Field(None, ge=0, le=2)
    max_tokens: int | None = Field(None, ge=1, le=1_000_000, description="Longest answer, in tokens.")

    @property
    def full_name(self) -> str:
        """`provider/name`, or empty when the account's default model is meant."""
        return f"{self.provider}/{self.name}" if self.provider and self.name else ""


class KnowledgeBase(_Part):
    """What the agent reads."""

    enabled: bool = False
    sources: tuple[str, ...] = ()


class Memory(_Part):
    """What the agent remembers of its people."""

    enabled: bool = False
    auto_extract: bool = False


class Trigger(_Part):
    """What starts the agent without a person."""

    type: Literal["cron", "webhook", "event"]
    schedule: str | None = None
    action: str = ""


class Limits(_Part):
    """Where a run ends even if the model would go on."""

    max_steps: int = Field(50, ge=1, le=1000, description="Model calls a run makes at most.")
    max_seconds: int = Field(3600, ge=1, le=86_400, description="How long a run works at most; waiting for a person does not count.")
    max_cost_micro_usd: int | None = Field(None, ge=0, le=10**15, description="What a run may spend on models. A model of unknown price is refused then.")
    max_cost_per_minute_micro_usd: int | None = Field(
        None, ge=0, le=10**15, description="What a run may spend on models within any minute: it ends one that has begun to burn money."
    )
    context_tokens: int = Field(60_000, ge=1_000, le=2_000_000, description="Tokens of context sent at most (the model's own limit if smaller).")


class ArgumentRule(_Part):
    """A rule on an action's arguments. The first rule that matches decides."""

    when: dict[str, str] = Field(default_factory=dict, description="Argument to glob pattern, e.g. {command: 'git *'}; all must match.")
    decision: Permission


class ActionPermission(_Part):
    """What one action may do."""

    default: Permission = "allow"
    rules: tuple[ArgumentRule, ...] = ()


class Routing(_Part):
    """How a model is chosen when several would do."""

    strategy: Literal["cost_optimized", "quality_optimized", "decentralized", "balanced"] | None = None


class McpServer(_Part):
    """A Model Context Protocol server the agent may use."""

    name: Name
    url: str = ""
    command: tuple[str, ...] = ()


class Wallet(_Part):
    """The agent's wallet."""

    enabled: bool = False
    network: str = ""


class AgentConfig(_Part):
    """One agent, whole."""

    name: Name
    system_prompt: str = Field("", max_length=200_000)
    model: ModelChoice = ModelChoice()
    tools: tuple[str, ...] = Field((), description="Names of tools, e.g. code_execution, file_operations.")
    knowledge_base: KnowledgeBase | None = None
    memory: Memory | None = None
    triggers: tuple[Trigger, ...] = ()
    routing: Routing | None = None
    limits: Limits = Limits()
    permissions: dict[str, Permission | ActionPermission] = Field(
        default_factory=dict, description="Action or tool name to allow, ask or deny, or to a default with rules on arguments."
    )
    mcp: tuple[McpServer, ...] = ()
    wallet: Wallet | None = None

    def canonical(self) -> dict[str, Any]:
        """Only what differs from the defaults, in the order of this class: what is stored and hashed."""
        return self.model_dump(mode="json", exclude_defaults=True)

    def content_hash(self) -> bytes:
        """SHA-256 of the canonical form with sorted keys: equal configurations are equal versions."""
        return hashlib.sha256(orjson.dumps(self.canonical(), option=orjson.OPT_SORT_KEYS)).digest()
