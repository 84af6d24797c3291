"""What the agent core says and hears over HTTP, and the catalogue of tools (names, actions, effect classes) as data."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from backend.agent.config import AgentConfig, Permission
from backend.services.attachments.schemas import MOST_OF_A_MESSAGE, Attached

RunStatus = Literal["queued", "running", "waiting_approval", "completed", "failed", "stopped", "timed_out"]
TERMINAL: frozenset[str] = frozenset({"completed", "failed", "stopped", "timed_out"})
StepStatus = Literal["planned", "started", "done", "failed", "unknown"]
Effect = Literal["read", "idempotent", "once"]
ToolStatus = Literal["ok", "error", "denied", "timeout", "cancelled", "unknown"]
Kind = Literal["centralized", "decentralized", "local", "demo"]
BusyPolicy = Literal["reject", "enqueue", "interrupt", "rollback"]
WITH_FILES = "attachments"  # as the tool name of a person's message: it brought files


class _View(BaseModel):
    model_config = ConfigDict(frozen=True)


class ProblemBody(_View):
    """An RFC 9457 problem."""

    type: str
    title: str
    status: int
    detail: str = ""
    request_id: str | None = None
    provider: str = Field("", description="Which model provider failed, when one did.")
    setting: str = Field("", description="Which setting is missing, when one is.")


# Agents ---------------------------------------------------------------------------------------------------------------


class NewAgent(BaseModel):
    """A new agent; its configuration becomes version 1."""

    config: AgentConfig


class Agent(_View):
    """An agent and its active version's configuration."""

    agent_id: UUID
    name: str
    config: AgentConfig
    active_version: int
    has_draft: bool
    off: list["OffPart"] = Field(default_factory=list, description="Parts of the configuration that do not work here, with the reason.")
    created_at: datetime
    updated_at: datetime


class OffPart(_View):
    """A part of a configuration that is kept but off."""

    part: str
    reason: str
    fix: str = ""


class DraftUpdate(BaseModel):
    """A draft's new content: the configuration, or its YAML."""

    config: AgentConfig | None = None
    yaml: str | None = Field(None, max_length=1_000_000)


class Draft(_View):
    """The one mutable draft of an agent, or its active configuration while there is none (`exists` false)."""

    agent_id: UUID
    exists: bool
    revision: int
    based_on: int
    config: AgentConfig
    yaml: str
    updated_at: datetime


class Publish(BaseModel):
    """Make the draft a version and activate it."""

    note: str = Field("", max_length=1000)


class AgentVersion(_View):
    """An immutable configuration."""

    version_id: UUID
    agent_id: UUID
    number: int
    active: bool
    content_hash: str
    note: str
    config: AgentConfig
    created_at: datetime


class Diff(_View):
    """A unified diff of two configurations' YAML; empty when they are equal."""

    old: str
    new: str
    diff: str


class Duplicate(BaseModel):
    """A copy of an agent under another name."""

    name: str | None = Field(None, min_length=1, max_length=255)


class YamlText(BaseModel):
    """An agent as YAML."""

    yaml: str = Field(max_length=1_000_000)


class YamlError(_View):
    """Where a YAML is wrong; line and column count from 1."""

    line: int
    column: int
    loc: str
    message: str


class YamlCheck(_View):
    """A YAML read: normalised, or what is wrong with it."""

    config: AgentConfig | None
    yaml: str | None
    errors: list[YamlError]


class AgentTemplate(_View):
    """An agent to start from, with a first message."""

    id: str
    name: str
    description: str
    config: AgentConfig
    prompt: str


class PermissionRule(_View):
    """An "always" answer: the action and the exact pattern of arguments it covers."""

    rule_id: UUID
    action: str
    pattern: dict[str, Any]
    decision: Permission
    created_at: datetime


# Tools ----------------------------------------------------------------------------------------------------------------


class ActionInfo(_View):
    """One function the model can call."""

    name: str
    description: str
    effect: Effect
    default_permission: Permission


class ToolInfo(_View):
    """A tool, whether it works here, and why not."""

    name: str
    module: str
    title: str
    description: str
    on: bool
    reason: str = ""
    fix: str = ""
    actions: list[ActionInfo]


def _action(name: str, effect: Effect, description: str, permission: Permission = "allow") -> ActionInfo:
    return ActionInfo(name=name, description=description, effect=effect, default_permission=permission)


CATALOGUE: tuple[ToolInfo, ...] = (
    ToolInfo(
        name="code_execution",
        module="sb_shell_tool",
        title="Shell",
        description="Run commands in the thread's sandbox, in the foreground, in the background and in a terminal.",
        on=True,
        actions=[
            _action("shell", "once", "Run a command and wait for it."),
            _action("shell_start", "once", "Start a command in the background."),
            _action("shell_output", "read", "Read what a background command has printed."),
            _action("shell_input", "once", "Type into a background command's terminal."),
            _action("shell_stop", "idempotent", "Stop a background command."),
            _action("shell_processes", "read", "List background commands."),
        ],
    ),
    ToolInfo(
        name="file_operations",
        module="sb_files_tool",
        title="Files",
        description="Read, write and search files in the thread's workspace.",
        on=True,
        actions=[
            _action("read_file", "read", "Read a file."),
            _action("write_file", "idempotent", "Write a whole file."),
            _action("edit_file", "idempotent", "Replace a passage of a file."),
            _action("list_files", "read", "List a folder."),
            _action("search_files", "read", "Search files by text."),
            _action("delete_file", "idempotent", "Delete a file."),
        ],
    ),
)

# Tools of the overview that have a name but do not work yet: kept, versioned, shown as off.
PLANNED: dict[str, str] = {
    "web_search": "web_search_tool",
    "browser": "sb_browser_tool",
    "remote_browser": "browser_tool",
    "data_providers": "data_providers_tool",
    "wallet": "coinbase_payments_tool",
    "x402": "x402_tool",
}
TOOL_NAMES: dict[str, str] = {tool.name: tool.module for tool in CATALOGUE} | PLANNED
ACTIONS: dict[str, ActionInfo] = {action.name: action for tool in CATALOGUE for action in tool.actions}


def tool_name(name: str) -> str | None:
    """The overview's name of a tool given by it or by its module's name; None when there is no such tool."""
    if name in TOOL_NAMES:
        return name
    return next((known for known, module in TOOL_NAMES.items() if module == name), None)


# Threads and messages -------------------------------------------------------------------------------------------------


Tag = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=50)]
Tags = Annotated[list[Tag], Field(max_length=20), AfterValidator(lambda tags: list(dict.fromkeys(tags)))]


class NewThread(BaseModel):
    """A thread with an agent. A client may bring its own id, so that asking twice makes one."""

    thread_id: UUID | None = None
    agent_id: UUID
    title: str = Field("", max_length=300)


class ThreadUpdate(BaseModel):
    """What a person changes of a thread. What is left out stays as it is."""

    title: str | None = Field(None, min_length=1, max_length=300)
    pinned: bool | None = None
    archived: bool | None = None
    tags: Tags | None = None


class ThreadUsage(_View):
    """What a thread's runs took together. `cost_known` is false when some price was unknown."""

    input_tokens: int
    output_tokens: int
    cost_micro_usd: int
    cost_known: bool


class Thread(_View):
    """A conversation. `number` is short and unique in the account: entry 12 of thread 84 is № 84.12."""

    thread_id: UUID
    agent_id: UUID
    agent_name: str
    number: int
    title: str
    pinned: bool = False
    archived: bool = False
    tags: list[str] = Field(default_factory=list)
    active_branch: int = Field(0, description="The branch that a new message goes on.")
    active_run: "Run | None" = None
    usage: ThreadUsage | None = None
    created_at: datetime
    updated_at: datetime
    deleted_at: datetime | None = Field(None, description="When it was deleted; for seven days it can be restored.")


class Receipt(_View):
    """What an act took. Money is micro-USD; `cost_micro_usd` null means the price is unknown."""

    provider: str = ""
    kind: Kind | None = None
    model: str = ""
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    estimated: bool = False
    cost_micro_usd: int | None = None
    duration_ms: int = 0
    first_token_ms: int | None = None
    stop_reason: str = ""
    upstream_id: str | None = None
    exit_code: int | None = None
    truncated: bool = False
    log_path: str | None = None


class ToolCallView(_View):
    """A call as the model wrote it; `arguments` is its JSON text."""

    id: str
    name: str
    arguments: str


class Message(_View):
    """One entry of a thread. `seq` is null while its turn has not begun."""

    message_id: UUID
    thread_id: UUID
    run_id: UUID | None
    parent_id: UUID | None
    seq: int | None
    role: Literal["user", "assistant", "tool"]
    content: str
    reasoning: str = ""
    tool_calls: list[ToolCallView] = Field(default_factory=list)
    tool_call_id: str | None = None
    tool_name: str | None = None
    status: Literal["ok", "error", "denied", "timeout", "cancelled", "unknown", "partial"] = "ok"
    receipt: Receipt | None = None
    attachments: list[Attached] = Field(default_factory=list, description="Files that a person sent with it.")
    created_at: datetime


class PlacedMessage(Message):
    """A message on a branch's path. When it was said in several ways, `siblings` are all of them in order, and `position` is where it stands among them."""

    branch: int
    siblings: list[UUID] = Field(default_factory=list)
    position: int = Field(0, description="Counts from 0.")


class MessagePage(_View):
    """Messages of one branch's path, oldest first. `next_before_seq` asks for what lies before; null at the beginning."""

    branch: int
    items: list[PlacedMessage]
    next_before_seq: int | None


class SearchPart(_View):
    """A piece of a text; with `match` it is what was looked for."""

    text: str
    match: bool


class SearchHit(_View):
    """A message that was found, by the pieces of it around what matches, and where it stands."""

    message_id: UUID
    thread_id: UUID
    agent_id: UUID
    thread_number: int
    title: str
    archived: bool
    branch: int
    seq: int | None
    role: Literal["user", "assistant"]
    parts: list[SearchPart]
    created_at: datetime


class BranchChoice(BaseModel):
    """The branch that holds this message is the one that goes on."""

    message_id: UUID


class NewFork(BaseModel):
    """A new thread that begins as this one stands at a message."""

    message_id: UUID
    title: str | None = Field(None, min_length=1, max_length=300)


# Runs -----------------------------------------------------------------------------------------------------------------


class UserMessage(BaseModel):
    """What a person says. The client makes the id: sending it twice is a no-op."""

    message_id: UUID
    content: str = Field(min_length=1, max_length=1_000_000)
    attachments: list[UUID] = Field(default_factory=list, max_length=MOST_OF_A_MESSAGE, description="Files that were uploaded before.")


class NewRun(BaseModel):
    """A message and the run that answers it. `if_busy` says what happens when the thread has a run already.

    With `edits` it is said in place of another message: on a new branch that begins before that one, which is kept.
    """

    message: UserMessage
    model: str | None = Field(None, max_length=300, description="provider/name, for this run only.")
    if_busy: BusyPolicy = "enqueue"
    edits: UUID | None = Field(None, description="The message of a person that this one is another version of.")


class Run(_View):
    """One answer in the making, or made. `place` is how many queued runs stand before this one."""

    run_id: UUID
    thread_id: UUID
    agent_id: UUID
    version: int
    status: RunStatus
    model: str | None
    input_message_id: UUID
    retry_of: UUID | None
    place: int | None = None
    stop_requested: bool = False
    problem: ProblemBody | None
    steps: int
    losses: int
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    cost_micro_usd: int
    cost_known: bool
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


class Step(_View):
    """A line of a run's journal."""

    step_id: UUID
    number: int
    kind: Literal["model_call", "tool_call"]
    name: str
    call_id: str | None
    message_id: UUID | None
    effect: Effect | None
    status: StepStatus
    attempts: int
    cost_micro_usd: int | None
    usage: dict[str, Any] | None
    detail: dict[str, Any] | None
    started_at: datetime | None
    finished_at: datetime | None


class Approval(_View):
    """An act that waits for a person, bound to the hash of its exact form. `pattern` is what "always" would allow; null when it is not offered."""

    approval_id: UUID
    run_id: UUID
    thread_id: UUID
    agent_id: UUID
    agent_name: str
    call_id: str
    action: str
    arguments: dict[str, Any]
    act_hash: str
    reason: str
    pattern: dict[str, Any] | None
    status: Literal["pending", "approved", "denied", "expired", "used", "void"]
    note: str
    created_at: datetime
    expires_at: datetime
    decided_at: datetime | None


class Decision(BaseModel):
    """A person's answer. `act_hash` is that of the act he was shown: another one voids the answer."""

    decision: Literal["approve", "deny"]
    act_hash: str
    always: bool = False
    note: str = Field("", max_length=2000)


# Workspace ------------------------------------------------------------------------------------------------------------


class FileEntry(_View):
    """A file or folder of a workspace."""

    name: str
    path: str
    kind: Literal["file", "folder", "link", "other"]
    size: int
    modified_at: datetime


class Folder(_View):
    """A folder's content."""

    path: str
    entries: list[FileEntry]
    truncated: bool = False


# Inference ------------------------------------------------------------------------------------------------------------


class ProviderUpdate(BaseModel):
    """A provider's key and address. What is left out stays as it is."""

    api_key: str | None = Field(None, min_length=1, max_length=500)
    base_url: str | None = Field(None, max_length=500)


class ProviderStatus(_View):
    """A provider as it stands. The key is never returned; `hint` is its last four characters."""

    name: str
    title: str
    kind: Kind
    needs_key: bool
    takes_base_url: bool
    configured: bool
    source: Literal["none", "environment", "account", "built-in"]
    hint: str
    base_url: str
    tested_at: datetime | None
    test_ok: bool | None
    test_detail: str


class ProviderTest(_View):
    """What a real call to a provider said."""

    ok: bool
    detail: str
    latency_ms: int
    models: list[str]


class ModelView(_View):
    """A model one can choose. Prices are micro-USD per million tokens; null is unknown."""

    name: str
    provider: str
    kind: Kind
    title: str
    context_tokens: int | None
    supports_tools: bool | None
    input_price: int | None
    output_price: int | None
    cached_price: int | None
    price_source: Literal["account", "provider", "free", "unknown"]


class ModelPrice(BaseModel):
    """A price the account sets, in micro-USD per million tokens; null is unknown."""

    model: str = Field(min_length=3, max_length=300)
    input_price: int | None = Field(None, ge=0, le=10**15)
    output_price: int | None = Field(None, ge=0, le=10**15)
    cached_price: int | None = Field(None, ge=0, le=10**15)


class InferenceSettings(BaseModel):
    """Which model answers for agents that name none."""

    default_model: str | None = Field(None, max_length=300)


# Names of what watchers and callers see of a row.
MESSAGE_FIELDS = tuple(Message.model_fields)
APPROVAL_FIELDS = tuple(Approval.model_fields)
STEP_FIELDS = tuple(Step.model_fields)

Agent.model_rebuild()
Thread.model_rebuild()
