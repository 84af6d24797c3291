"""What happens in a run, as one discriminated union on `type`; the web client's types are generated from it.

Every generation of a stream opens with `stream.snapshot`, which a reader sets; what follows it applies. `message.delta` and the
other deltas carry text that was joined over some tens of milliseconds, never a token each.
"""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from backend.agent.schemas import Approval, Message, ProblemBody, Run, RunStatus, Step, ToolStatus


class _Event(BaseModel):
    model_config = ConfigDict(frozen=True)


class PartialCall(_Event):
    """A tool call that the model is still writing."""

    index: int
    id: str
    name: str
    arguments: str


class PartialMessage(_Event):
    """The assistant message that is being written."""

    message_id: UUID
    content: str
    reasoning: str
    tool_calls: list[PartialCall]


class StreamSnapshot(_Event):
    """The run so far, whole. `outputs` has an entry for each running tool, by call id: the tail of what it has printed."""

    type: Literal["stream.snapshot"] = "stream.snapshot"
    run: Run
    messages: list[Message]
    steps: list[Step]
    approvals: list[Approval]
    partial: PartialMessage | None = None
    outputs: dict[str, str] = Field(default_factory=dict)


class RunQueued(_Event):
    """The run waits for its turn."""

    type: Literal["run.queued"] = "run.queued"
    run_id: UUID
    place: int | None


class RunStarted(_Event):
    """A worker took the run."""

    type: Literal["run.started"] = "run.started"
    run_id: UUID
    at: datetime


class ContextPart(_Event):
    """A part of the context and its estimated tokens."""

    name: Literal["system", "tools", "memory", "knowledge", "summary", "messages"]
    tokens: int


class ContextBuilt(_Event):
    """What the next model call is sent, by part. `dropped` messages did not fit."""

    type: Literal["context.built"] = "context.built"
    parts: list[ContextPart]
    total: int
    limit: int
    dropped: int


class InferenceRouted(_Event):
    """Which model answers, and why."""

    type: Literal["inference.routed"] = "inference.routed"
    provider: str
    model: str
    kind: Literal["centralized", "decentralized", "local", "demo"]
    reason: str


class MessageStarted(_Event):
    """The model begins an answer."""

    type: Literal["message.started"] = "message.started"
    message_id: UUID
    at: datetime


class MessageDelta(_Event):
    """More of the answer's text."""

    type: Literal["message.delta"] = "message.delta"
    text: str


class ReasoningDelta(_Event):
    """More of the model's thinking."""

    type: Literal["reasoning.delta"] = "reasoning.delta"
    text: str


class MessageRestarted(_Event):
    """The answer begins again; what was written of it is void."""

    type: Literal["message.restarted"] = "message.restarted"
    message_id: UUID
    reason: str
    retry_in_ms: int = 0


class MessageCompleted(_Event):
    """The answer is saved, whole."""

    type: Literal["message.completed"] = "message.completed"
    message: Message


class ToolArgumentsDelta(_Event):
    """More of a tool call that the model is writing. `name` and `id` come with the first."""

    type: Literal["tool.arguments_delta"] = "tool.arguments_delta"
    index: int
    id: str
    name: str
    text: str


class ToolCalled(_Event):
    """A tool begins."""

    type: Literal["tool.called"] = "tool.called"
    call_id: str
    name: str
    effect: Literal["read", "idempotent", "once"]
    at: datetime


class ToolOutput(_Event):
    """More of what a running tool prints."""

    type: Literal["tool.output"] = "tool.output"
    call_id: str
    text: str


class ToolProgress(_Event):
    """How far a running tool is."""

    type: Literal["tool.progress"] = "tool.progress"
    call_id: str
    text: str


class ToolReturned(_Event):
    """A tool has ended; the message is its result as the model reads it."""

    type: Literal["tool.returned"] = "tool.returned"
    call_id: str
    status: ToolStatus
    message: Message


class ArtifactCreated(_Event):
    """A file of the workspace was written."""

    type: Literal["artifact.created"] = "artifact.created"
    path: str
    size: int


class ApprovalRequested(_Event):
    """An act waits for a person."""

    type: Literal["approval.requested"] = "approval.requested"
    approval: Approval


class ApprovalDecided(_Event):
    """A person has answered, or nobody did in time."""

    type: Literal["approval.decided"] = "approval.decided"
    approval: Approval


class UsageUpdated(_Event):
    """What the run took so far."""

    type: Literal["usage.updated"] = "usage.updated"
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    cost_micro_usd: int
    cost_known: bool
    steps: int


class RunFinished(_Event):
    """The run's true end. The stream closes after it."""

    type: Literal["run.finished"] = "run.finished"
    status: RunStatus
    problem: ProblemBody | None
    title: str | None = None


RunEvent = Annotated[
    StreamSnapshot
    | RunQueued
    | RunStarted
    | ContextBuilt
    | InferenceRouted
    | MessageStarted
    | MessageDelta
    | ReasoningDelta
    | MessageRestarted
    | MessageCompleted
    | ToolArgumentsDelta
    | ToolCalled
    | ToolOutput
    | ToolProgress
    | ToolReturned
    | ArtifactCreated
    | ApprovalRequested
    | ApprovalDecided
    | UsageUpdated
    | RunFinished,
    Field(discriminator="type"),
]


def event(type: str, **members: Any) -> dict[str, Any]:
    """An event as the hot path sends it: a plain dict of the shape its class documents (a test holds the two together)."""
    return {"type": type, **members}
