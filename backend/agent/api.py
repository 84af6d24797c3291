"""/api/agents, /api/tools and /api/inference."""

from typing import Annotated, Any
from urllib.parse import quote
from uuid import UUID

from fastapi import APIRouter, Depends, Header, Path, Query, Request, Response

from backend.accounts.auth import Editor, Manager, Reader, Transaction
from backend.agent import manifest, service, templates, versions
from backend.agent.inference import service as inference
from backend.agent.schemas import (
    Agent,
    AgentTemplate,
    AgentVersion,
    Diff,
    Draft,
    DraftUpdate,
    Duplicate,
    InferenceSettings,
    ModelPrice,
    ModelView,
    NewAgent,
    PermissionRule,
    ProviderStatus,
    ProviderTest,
    ProviderUpdate,
    Publish,
    ToolInfo,
    YamlCheck,
    YamlText,
)
from backend.kit.http import OnGround, ProblemDetails, refusals
from backend.kit.pages import Page

router = APIRouter(prefix="/api", tags=["agents"], responses=refusals(401))
agent_router = APIRouter(prefix="/api/agents/{agent_id}", tags=["agents"], responses=refusals(401, 404))


class StaleDraftDetails(ProblemDetails):
    """Somebody saved the draft in the meantime: `current` is what stands there now, and its ETag is in the header."""

    current: Draft


_STALE: dict[int | str, dict[str, Any]] = {
    412: {"model": StaleDraftDetails, "description": "Changed in the meantime"}
}
_YAML: dict[int | str, dict[str, Any]] = {200: {"content": {"text/yaml": {"schema": {"type": "string"}}}}}


class _Yaml(Response):
    media_type = "text/yaml"


async def _features(request: Request) -> service.Features:
    features: service.Features = await request.app.state.features()
    return features


Features = Annotated[service.Features, Depends(_features)]
Limit = Annotated[int, Query(ge=1, le=100)]
Number = Annotated[int, Path(ge=1, le=2**31 - 1)]
IdempotencyKey = Annotated[str | None, Header(alias="idempotency-key", min_length=1, max_length=200)]
IfMatch = Annotated[str | None, Header(alias="if-match")]


# Agents -----------------------------------------------------------------------------------------------------------------


@router.get("/agents")
async def list_agents(
    who: Reader,
    session: Transaction,
    features: Features,
    q: Annotated[str | None, Query(max_length=200)] = None,
    cursor: str | None = None,
    limit: Limit = 50,
) -> Page[Agent]:
    """Agents, newest first; `q` is a part of the name."""
    return await service.page(session, q, cursor, limit, features)


@router.post("/agents", status_code=201, responses=refusals(403, 409))
async def create_agent(
    new: NewAgent,
    who: Editor,
    session: Transaction,
    features: Features,
    idempotency_key: IdempotencyKey = None,
) -> Agent:
    """Create an agent; its configuration is version 1."""
    return await service.create(session, new.config, who.user_id, features, key=idempotency_key)


@router.get("/agents/schema")
async def read_agent_schema(who: Reader) -> dict[str, Any]:
    """The JSON Schema of an agent's YAML."""
    return manifest.json_schema()


@router.get("/agents/templates")
async def list_agent_templates(who: Reader) -> list[AgentTemplate]:
    """Agents to start from."""
    return list(templates.TEMPLATES)


@router.post("/agents/import", status_code=201, responses=refusals(403, 409))
async def import_agent(
    given: YamlText,
    who: Editor,
    session: Transaction,
    features: Features,
    idempotency_key: IdempotencyKey = None,
) -> Agent:
    """Create an agent from its YAML."""
    return await service.create(
        session, await service.read_yaml(given.yaml), who.user_id, features, key=idempotency_key
    )


@router.post("/agents/validate")
async def validate_agent(given: YamlText, who: Reader) -> YamlCheck:
    """Read a YAML: as it would be written, or every mistake with its line and column."""
    return await service.check_yaml(given.yaml)


@agent_router.get("")
async def read_agent(agent_id: UUID, who: Reader, session: Transaction, features: Features) -> Agent:
    """One agent with its active configuration."""
    return await service.read(session, agent_id, features)


@agent_router.delete("", status_code=204, responses=refusals(403))
async def delete_agent(agent_id: UUID, who: Editor, session: Transaction) -> None:
    """Take an agent away and stop its runs. Its threads can still be read."""
    await service.delete(session, agent_id, who.user_id)


@agent_router.post("/duplicate", status_code=201, responses=refusals(403, 409))
async def duplicate_agent(
    agent_id: UUID,
    copy: Duplicate,
    who: Editor,
    session: Transaction,
    features: Features,
    idempotency_key: IdempotencyKey = None,
) -> Agent:
    """A new agent with this one's active configuration."""
    return await service.duplicate(session, agent_id, copy.name, who.user_id, features, key=idempotency_key)


@agent_router.get("/export", response_class=_Yaml, responses=_YAML)
async def export_agent(
    agent_id: UUID,
    who: Reader,
    session: Transaction,
    features: Features,
    version: Annotated[int | None, Query(ge=1, le=2**31 - 1)] = None,
) -> _Yaml:
    """An agent as YAML: the active version, or the one that is named."""
    text, name = await service.export(session, agent_id, version, features)
    return _Yaml(
        text, headers={"Content-Disposition": f"attachment; filename*=UTF-8''{quote(name, safe='')}"}
    )


# Drafts -----------------------------------------------------------------------------------------------------------------


@agent_router.get("/draft")
async def read_draft(agent_id: UUID, who: Reader, session: Transaction, response: Response) -> Draft:
    """The draft, or the active configuration while there is none. The ETag is what a change has to name."""
    draft, response.headers["ETag"] = await versions.read_draft(session, agent_id)
    return draft


@agent_router.put("/draft", responses=refusals(403) | _STALE)
async def save_draft(
    agent_id: UUID,
    update: DraftUpdate,
    who: Editor,
    session: Transaction,
    response: Response,
    if_match: IfMatch = None,
) -> Draft:
    """Save the draft, from a configuration or from YAML. With If-Match only when nobody changed it since."""
    config = await service.config_of(update)
    draft, response.headers["ETag"] = await versions.save_draft(
        session, agent_id, config, who.user_id, if_match
    )
    return draft


@agent_router.delete("/draft", status_code=204, responses=refusals(403) | _STALE)
async def discard_draft(agent_id: UUID, who: Editor, session: Transaction, if_match: IfMatch = None) -> None:
    """Forget the draft. With If-Match only when nobody changed it since."""
    await versions.discard_draft(session, agent_id, if_match)


# Versions ---------------------------------------------------------------------------------------------------------------


@agent_router.get("/versions")
async def list_versions(
    agent_id: UUID, who: Reader, session: Transaction, cursor: str | None = None, limit: Limit = 50
) -> Page[AgentVersion]:
    """Versions, newest first."""
    return await versions.page(session, agent_id, cursor, limit)


@agent_router.post("/versions", status_code=201, responses=refusals(403))
async def publish_version(agent_id: UUID, given: Publish, who: Editor, session: Transaction) -> AgentVersion:
    """Make the draft a version and activate it. What was published before is that version again."""
    return await versions.publish(session, agent_id, given.note, who.user_id)


@agent_router.get("/versions/{number}")
async def read_version(agent_id: UUID, number: Number, who: Reader, session: Transaction) -> AgentVersion:
    """One version."""
    return await versions.read(session, agent_id, number)


@agent_router.get("/versions/{number}/diff", responses=refusals(400))
async def diff_versions(
    agent_id: UUID, number: Number, who: Reader, session: Transaction, against: str = versions.DRAFT
) -> Diff:
    """What changes from this version to `against`: another number, or `draft`."""
    return await versions.diff(session, agent_id, number, against)


@agent_router.post("/versions/{number}/activate", responses=refusals(403))
async def activate_version(agent_id: UUID, number: Number, who: Editor, session: Transaction) -> AgentVersion:
    """Make this version the active one, forward or back."""
    return await versions.activate(session, agent_id, number)


# Rules and tools --------------------------------------------------------------------------------------------------------


@agent_router.get("/rules")
async def list_rules(
    agent_id: UUID, who: Reader, session: Transaction, cursor: str | None = None, limit: Limit = 50
) -> Page[PermissionRule]:
    """ "Always" answers to this agent's questions, newest first."""
    return await service.rules(session, agent_id, cursor, limit)


@agent_router.delete("/rules/{rule_id}", status_code=204, responses=refusals(403))
async def delete_rule(agent_id: UUID, rule_id: UUID, who: Editor, session: Transaction) -> None:
    """Forget an "always" answer: the action asks again."""
    await service.delete_rule(session, agent_id, rule_id, who.user_id)


@router.get("/tools")
async def list_tools(who: Reader, features: Features) -> list[ToolInfo]:
    """Every tool: those that work here, and the others with the reason."""
    return service.tools(features)


# Inference --------------------------------------------------------------------------------------------------------------


async def _desk(request: Request, who: Reader, on: OnGround) -> inference.Desk:
    return inference.Desk(on.settings, on.sealer, request.app.state.models, who.account_id)


Desk = Annotated[inference.Desk, Depends(_desk)]


@router.get("/inference/providers")
async def list_providers(who: Reader, desk: Desk, on: OnGround) -> list[ProviderStatus]:
    """Every provider as it stands; Ollama is asked whether it is there."""
    return await inference.providers(on.database, desk)


@router.put("/inference/providers/{name}", responses=refusals(400, 403, 404))
async def set_provider(
    name: str, update: ProviderUpdate, who: Manager, session: Transaction, desk: Desk
) -> ProviderStatus:
    """Store a provider's key or address. A key is sealed and never returned."""
    return await inference.set_provider(session, desk, who, name, update)


@router.delete("/inference/providers/{name}", status_code=204, responses=refusals(403, 404))
async def remove_provider(name: str, who: Manager, session: Transaction) -> None:
    """Forget what the account stored for a provider."""
    await inference.remove_provider(session, who, name)


@router.post("/inference/providers/{name}/test", responses=refusals(400, 403, 404, 429))
async def test_provider(
    name: str, update: ProviderUpdate, who: Manager, desk: Desk, on: OnGround
) -> ProviderTest:
    """A real call, with what is given or else with what is stored."""
    return await inference.test_provider(on.database, on.redis, desk, name, update)


@router.get("/inference/models")
async def list_models(who: Reader, desk: Desk, on: OnGround) -> list[ModelView]:
    """Models that can be chosen now."""
    return await inference.models(on.database, desk)


@router.put("/inference/models/price", responses=refusals(400, 403))
async def set_model_price(price: ModelPrice, who: Manager, session: Transaction) -> ModelPrice:
    """Say what a model costs. Three times null forgets it."""
    await inference.set_price(session, who, price)
    return price


@router.get("/inference/settings")
async def read_inference_settings(who: Reader, session: Transaction, on: OnGround) -> InferenceSettings:
    """Which model answers for agents that name none."""
    return await inference.read_settings(session, on.settings)


@router.put("/inference/settings", responses=refusals(400, 403))
async def set_inference_settings(
    new: InferenceSettings, who: Manager, session: Transaction, on: OnGround
) -> InferenceSettings:
    """Choose the model that answers for agents that name none."""
    return await inference.save_settings(session, new, on.settings)
