"""/v1: models, chat completions, responses, embeddings, as OpenAI's clients know them."""

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterator
from dataclasses import replace
from typing import Annotated, Any, Protocol, TypeVar, cast
from uuid import UUID

import orjson
from fastapi import APIRouter, Depends, Header, Path, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response, StreamingResponse
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

from backend.accounts.auth import Editor, Reader, Transaction
from backend.accounts.service import Caller
from backend.agent.inference import service as inference
from backend.agent.inference.base import ModelEvent
from backend.agent.inference.errors import ModelError
from backend.agent.inference.registry import Model
from backend.doors.openai import agents, chat, errors, responses, service
from backend.doors.openai.errors import Refused
from backend.doors.openai.question import Question
from backend.doors.openai.schemas import (
    ChatCompletion,
    ChatRequest,
    EmbeddingRequest,
    ErrorAnswer,
    ListedModel,
    ModelList,
    ResponseRequest,
)
from backend.doors.openai.schemas import Response as ResponseBody
from backend.doors.openai.wire import KEEP_ALIVE, begun, lively, whole
from backend.kit.http import Ground, OnGround, room_for_work
from backend.kit.ids import uuid7
from backend.kit.problems import InvalidPayload, NotConfigured, Problem

_ALIVE_SECONDS = 10.0  # of silence before a comment is sent, and before a stream is begun without its first word
_GONE = 499  # nobody reads it
_STREAM_HEADERS = {"Cache-Control": "no-store, no-transform", "X-Accel-Buffering": "no"}
Result = TypeVar("Result")
Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class NoEmbeddings(NotConfigured):
    """Embeddings are not part of this version yet"""


# Failures ---------------------------------------------------------------------------------------------------------------


class _Route(APIRoute):
    """A route whose failures are in OpenAI's shape."""

    def get_route_handler(self) -> Handler:
        handle = super().get_route_handler()

        async def handled(request: Request) -> Response:
            try:
                return await handle(request)
            except Exception as error:
                problem = _problem(error)
                if problem is None:
                    raise
                return _refusal(problem)

        return handled


def _problem(error: Exception) -> Problem | None:
    """What the caller can be told of a failure; None for what nobody expected."""
    match error:
        case Problem():
            return error
        case ModelError():
            return errors.of_model(error)
        case RequestValidationError():
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"][1:])
            return InvalidPayload(errors=[{"loc": where, "message": str(first["msg"]).removeprefix("Value error, ")}])
        case HTTPException(__cause__=Problem() as cause):  # raised while the body was read
            return cause
        case HTTPException(status_code=400):
            return Refused("The body cannot be read.")
        case _:
            return None


def _refusal(problem: Problem) -> Response:
    return _json(errors.body(problem), errors.status(problem), problem.headers)


def _json(body: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(orjson.dumps(body), status, headers, media_type="application/json")


_SAYS = {
    400: "The request is not right",
    401: "The API key is not valid",
    403: "Not allowed",
    404: "There is no such model, agent, thread or response",
    409: "In conflict with the present state, or the run was stopped",
    413: "Too large",
    422: "Never: what cannot be read is answered with 400",
    429: "Too many requests, or the provider's quota is used up",
    500: "The agent failed",
    502: "The model provider failed",
    503: "Not configured, or not available right now",
    504: "The model provider did not answer in time, or the run came to its limit of time",
    507: "The disk is nearly full",
}


def _errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return {status: {"model": ErrorAnswer, "description": _SAYS[status]} for status in statuses}


router = APIRouter(prefix="/v1", tags=["openai"], route_class=_Route, responses=_errors(400, 401, 422, 503))
_ANSWERS = _errors(403, 404, 409, 413, 429, 500, 502, 504, 507)
_STREAMED: dict[str, Any] = {"text/event-stream": {"schema": {"type": "string"}}}


# What routes ask --------------------------------------------------------------------------------------------------------


async def _desk(request: Request, who: Reader, on: OnGround) -> inference.Desk:
    return inference.Desk(on.settings, on.sealer, request.app.state.models, who.account_id)


Desk = Annotated[inference.Desk, Depends(_desk)]
ThreadHeader = Annotated[UUID | None, Header(alias="x-thread-id", description="With an agent: the thread to go on with.")]
Key = Annotated[str | None, Header(alias="idempotency-key", min_length=1, max_length=200, description="With an agent: asking twice is one run.")]
StopHeader = Annotated[bool, Header(alias="x-stop-on-disconnect", description="With an agent: stop the run when this client leaves.")]


def _threads_at(request: Request, on: Ground) -> str:
    """Where people find threads."""
    return f"{(on.settings.vibe_public_url or str(request.base_url)).rstrip('/')}/threads"


# Models -----------------------------------------------------------------------------------------------------------------


@router.get("/models")
async def list_openai_models(who: Reader, desk: Desk, on: OnGround) -> ModelList:
    """Everything that can be named as a model now: agents, `auto`, and the models of every provider that answers."""
    return ModelList(data=await service.listed(on.database, desk))


@router.get("/models/{model:path}", responses=_errors(404))
async def read_openai_model(model: Annotated[str, Path(max_length=300)], who: Reader, desk: Desk, on: OnGround) -> ListedModel:
    """One of them, by its name or an agent's id."""
    return await service.one(on.database, desk, model)


# Answers ----------------------------------------------------------------------------------------------------------------


class _Stream(Protocol):
    """An answer on one of the two wires."""

    def opening(self) -> Iterator[bytes]: ...

    def event(self, event: ModelEvent) -> Iterator[bytes]: ...

    def failed(self, error: dict[str, Any]) -> Iterator[bytes]: ...


class _Asking:
    """A question on its way to an agent or a model."""

    def __init__(self, request: Request, on: Ground, who: Caller, desk: inference.Desk, *, key: str | None, stops: bool) -> None:
        self._request, self._on, self._who, self._desk, self._key, self._stops = request, on, who, desk, key, stops
        self.place: agents.Place | None = None
        self.id = uuid7().hex

    async def begin(self, question: Question, previous: str | None = None) -> AsyncGenerator[ModelEvent, None]:
        """Find who is asked, start what has to be started, and return what will be said. No connection is held afterwards."""
        async with self._on.database.transaction(self._who.account_id) as session:
            target = await service.meant(session, self._desk, question.model)
            if isinstance(target, Model):
                if previous is not None:
                    raise Refused("A model's responses are not kept: send the conversation as the input.", param="previous_response_id")
                return service.told(target, question, self.id, self._who.account_id)
            thread_id = (await service.earlier(session, previous)).thread_id if previous else question.thread_id
            question = replace(question, thread_id=thread_id)
            seen = hashlib.sha256(await self._request.body()).digest()
            threads_at = _threads_at(self._request, self._on)
            run = await agents.begin(session, target.agent_id, question, key=self._key, request=seen, threads_at=threads_at)
        self.id = run.run_id.hex
        self.place = agents.Place(self._who.account_id, run.run_id, run.thread_id, question.model, f"{threads_at}/{run.thread_id}")
        return self._run(self.place)

    async def _run(self, place: agents.Place) -> AsyncGenerator[ModelEvent, None]:
        """What the run says. It goes on when the client leaves, unless the client asked for the opposite."""
        is_whole = False
        try:
            async with contextlib.aclosing(agents.follow(self._request.app.state.watch, place)) as events:
                async for event in events:
                    yield event
            is_whole = True
        except Problem:
            is_whole = True
            raise
        finally:
            if self._stops and not is_whole:
                await agents.stop(self._on.database, place.account_id, place.run_id)

    @property
    def headers(self) -> dict[str, str]:
        """Where an agent's answer is kept."""
        return {} if self.place is None else {"X-Thread-Id": str(self.place.thread_id), "X-Run-Id": str(self.place.run_id)}

    async def whole(self, events: AsyncGenerator[ModelEvent, None], body: Callable[[Any], Any]) -> Response:
        """The answer when it is whole; given up when the client leaves before."""
        answering = asyncio.create_task(whole(events))
        leaving = asyncio.create_task(_left(self._request))
        try:
            await asyncio.wait({answering, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if not answering.done():
                return Response(status_code=_GONE)
            return _json(body(answering.result()), headers=self.headers)
        except (Problem, ModelError) as error:
            problem = _problem(error)
            assert problem is not None
            problem.headers |= self.headers
            raise problem from None
        finally:
            leaving.cancel()
            if not answering.done():
                answering.cancel()
                await asyncio.wait({answering})

    async def stream(self, events: AsyncGenerator[ModelEvent, None], wire: _Stream) -> Response:
        """The answer as it comes. A model that fails at once is answered with its status; a run has begun, so its stream begins too."""
        paced: AsyncIterator[ModelEvent | None] = lively(events, _ALIVE_SECONDS)
        if self.place is None:
            paced = await begun(cast("AsyncGenerator[ModelEvent | None, None]", paced))
        return _EventStream(_written(paced, wire), headers=_STREAM_HEADERS | self.headers)


class _EventStream(StreamingResponse):
    """Server-sent events. No proxy may hold, compress or keep them."""

    media_type = "text/event-stream"


async def _written(events: AsyncIterator[ModelEvent | None], wire: _Stream) -> AsyncIterator[bytes]:
    """Events as a client reads them; a failure in the middle is the last of them."""
    async with contextlib.aclosing(cast("AsyncGenerator[ModelEvent | None, None]", events)):
        yield b"".join(wire.opening())
        try:
            async for event in events:
                yield KEEP_ALIVE if event is None else b"".join(wire.event(event))
        except (Problem, ModelError) as error:
            problem = _problem(error)
            assert problem is not None
            yield b"".join(wire.failed(errors.body(problem)))


async def _left(request: Request) -> None:
    """Return when the client has closed the connection."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _asking(
    request: Request, on: OnGround, who: Editor, desk: Desk, idempotency_key: Key = None, x_stop_on_disconnect: StopHeader = False
) -> _Asking:
    return _Asking(request, on, who, desk, key=idempotency_key, stops=x_stop_on_disconnect)


Asking = Annotated[_Asking, Depends(_asking)]


@router.post(
    "/chat/completions",
    response_model=None,
    dependencies=[Depends(room_for_work)],
    responses=_ANSWERS | {200: {"model": ChatCompletion, "content": _STREAMED, "description": "The answer; with `stream` as chunks"}},
)
async def create_chat_completion(given: ChatRequest, asking: Asking, x_thread_id: ThreadHeader = None) -> Response:
    """Continue a conversation: with an agent, in a thread of its own, or straight with a model."""
    events = await asking.begin(chat.read(given, x_thread_id))
    id = f"chatcmpl-{asking.id}"
    if given.stream:
        include_usage = bool(given.stream_options and given.stream_options.include_usage)
        return await asking.stream(events, chat.ChatStream(id, given.model, include_usage=include_usage))
    return await asking.whole(events, lambda answer: chat.completion(id, given.model, answer))


@router.post(
    "/responses",
    response_model=None,
    dependencies=[Depends(room_for_work)],
    responses=_ANSWERS | {200: {"model": ResponseBody, "content": _STREAMED, "description": "The response; with `stream` as events"}},
)
async def create_response(given: ResponseRequest, asking: Asking, x_thread_id: ThreadHeader = None) -> Response:
    """Answer something: with an agent, in a thread of its own, or straight with a model."""
    events = await asking.begin(responses.read(given, x_thread_id), given.previous_response_id)
    frame = responses.frame(given, f"resp_{asking.id}", asking.place.thread_id if asking.place else None)
    if given.stream:
        return await asking.stream(events, responses.ResponseStream(frame))
    return await asking.whole(events, lambda answer: responses.finished(frame, answer).model_dump())


@router.get("/responses/{response_id}", responses=_errors(404))
async def read_response(response_id: Annotated[str, Path(max_length=100)], request: Request, session: Transaction, who: Reader, on: OnGround) -> ResponseBody:
    """An agent's response as it stands. A model's are not kept."""
    return await service.response(session, response_id, _threads_at(request, on))


@router.post("/embeddings", status_code=503, response_model=None, responses=_errors(403))
async def create_embedding(given: EmbeddingRequest, who: Editor) -> Response:
    """Not yet: this version has no models that embed."""
    raise NoEmbeddings("Ask a provider of embeddings directly for now.", headers=errors.DO_NOT_RETRY, code="not_configured")
