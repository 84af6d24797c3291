"""Whom a model's name means, and what can be named."""

import contextlib
import logging
from collections import Counter
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from uuid import UUID

from backend.agent import service as agents
from backend.agent.inference import service as inference
from backend.agent.inference.base import Completed, ModelEvent
from backend.agent.inference.errors import ModelNotFound
from backend.agent.inference.pricing import cost_micro_usd
from backend.agent.inference.registry import Model
from backend.agent.runs import service as runs
from backend.agent.schemas import Run
from backend.doors.openai import agents as answers
from backend.doors.openai.errors import NoSuchModel, Refused
from backend.doors.openai.question import Question, thread_perhaps
from backend.doors.openai.responses import finished
from backend.doors.openai.schemas import ListedModel, Response, ResponseError, ResponseStatus
from backend.kit.db import Database, Session
from backend.kit.problems import NotFound

log = logging.getLogger(__name__)

AUTO = "auto"
AGENT = "agent/"


@dataclass(frozen=True)
class Agent:
    """An agent that is asked."""

    agent_id: UUID


async def meant(session: Session, desk: inference.Desk, name: str) -> Agent | Model:
    """Whom a name means: an agent by its id or `agent/<name>`, the default model (`auto`), or a model by its full name.

    Raises `NoSuchModel`, `Refused` for a name that two agents have, and `ModelError` for a model that cannot be asked.
    """
    if (agent_id := thread_perhaps(name)) is not None:
        if all(known != agent_id for known, _, _ in await agents.called(session)):
            raise NoSuchModel("No agent has this id.")
        return Agent(agent_id)
    if name.startswith(AGENT):
        found = await agents.called(session, name.removeprefix(AGENT))
        if not found:
            raise NoSuchModel("No agent has this name; GET /v1/models lists them.")
        if len(found) > 1:
            raise Refused("Several agents have this name: use the id of the one you mean.", param="model")
        return Agent(found[0][0])
    try:
        return await inference.chosen(session, desk, None if name == AUTO else name)
    except ModelNotFound as error:
        raise NoSuchModel(error.detail) from None


async def told(model: Model, question: Question, call_id: str, account_id: UUID) -> AsyncGenerator[ModelEvent, None]:
    """What a model says; the log keeps what it took, for no run does. Raises `ModelError`."""
    async with contextlib.aclosing(model.answer(question.request(call_id))) as events:
        async for event in events:
            if isinstance(event, Completed):
                took = {
                    "account_id": str(account_id), "call_id": call_id, "model": model.name, "input_tokens": event.usage.input_tokens,
                    "output_tokens": event.usage.output_tokens, "cost_micro_usd": cost_micro_usd(event.usage, model.info),
                }  # fmt: skip
                log.info("a model was asked without an agent", extra=took)
            yield event


async def listed(database: Database, desk: inference.Desk) -> list[ListedModel]:
    """Everything that can be named now: agents, then models. An agent whose name is not the only one of its kind is named by its id."""
    async with database.transaction(desk.account_id) as session:
        known = await agents.called(session)
        default = (await inference.read_settings(session, desk.settings)).default_model
    names = Counter(name for _, name, _ in known)
    listed = [
        ListedModel(id=f"{AGENT}{name}" if names[name] == 1 else str(agent_id), created=int(created.timestamp()), owned_by="agent")
        for agent_id, name, created in known
    ]
    if default:
        listed.append(ListedModel(id=AUTO, owned_by="vibe"))
    return listed + [ListedModel(id=model.name, owned_by=model.provider) for model in await inference.models(database, desk)]


async def one(database: Database, desk: inference.Desk, name: str) -> ListedModel:
    """One that can be named. Raises `NoSuchModel`."""
    if (agent_id := thread_perhaps(name)) is not None or name.startswith(AGENT):
        async with database.transaction(desk.account_id) as session:
            for known, called, created in await agents.called(session):
                if known == agent_id or f"{AGENT}{called}" == name:
                    return ListedModel(id=name, created=int(created.timestamp()), owned_by="agent")
        raise NoSuchModel("No agent has this name or id.")
    for model in await listed(database, desk):
        if model.id == name:
            return model
    raise NoSuchModel("This model is not among those that can be asked now; GET /v1/models lists them.")


# Responses of agents ----------------------------------------------------------------------------------------------------

_STATUS: dict[str, ResponseStatus] = {
    "queued": "queued",
    "running": "in_progress",
    "waiting_approval": "in_progress",
    "completed": "completed",
    "failed": "failed",
    "stopped": "cancelled",
    "timed_out": "failed",
}


def run_id_of(response_id: str) -> UUID | None:
    """The run that a response stands for, if the id is one of ours."""
    return thread_perhaps(response_id.removeprefix("resp_"))


def response_id_of(run_id: UUID) -> str:
    """A run's name on the wire."""
    return f"resp_{run_id.hex}"


async def earlier(session: Session, response_id: str) -> Run:
    """The run of a response that a client wants to go on from."""
    run_id = run_id_of(response_id)
    if run_id is not None:
        try:
            return await runs.get(session, run_id)
        except NotFound:
            pass
    detail = "There is no such response. Only an agent's are kept; for a model, send the conversation as the input."
    raise Refused(detail, param="previous_response_id", code="previous_response_not_found")


async def response(session: Session, response_id: str, threads_at: str) -> Response:
    """An agent's response as it stands."""
    run_id = run_id_of(response_id)
    if run_id is None:
        raise NotFound("There is no such response. Only an agent's are kept.")
    snapshot = await runs.snapshot(session, run_id)
    run = Run.model_validate(snapshot["run"])
    place = answers.Place(session.account_id or run_id, run_id, run.thread_id, f"{run.agent_id}", f"{threads_at}/{run.thread_id}")
    listener = answers.Listener(place)
    listener.hear(snapshot)
    base = Response(
        id=response_id_of(run_id),
        created_at=int(run.created_at.timestamp()),
        status="in_progress",
        model=str(run.agent_id),
        output=[],
        metadata={"thread_id": str(run.thread_id)},
    )
    told = finished(base, listener.completed())
    if run.status == "completed":
        return told
    problem = run.problem
    error = ResponseError(code="server_error", message=f"{problem.title}. {problem.detail}".strip()) if problem else None
    return told.model_copy(update={"status": _STATUS[run.status], "incomplete_details": None} | ({"error": error} if error else {}))
