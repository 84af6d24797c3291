"""The HTTP process: routes, health, metrics. It keeps nothing that another one would miss."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

from fastapi import APIRouter, FastAPI, Request, Response
from pydantic import BaseModel

from backend import __version__
from backend.accounts import api as accounts
from backend.accounts.auth import SESSION_COOKIE
from backend.accounts.gotrue import api as gotrue
from backend.accounts.gotrue.mail import Mailer
from backend.accounts.schemas import Feature
from backend.accounts.supabase import api as supabase
from backend.accounts.supabase.service import Supabase
from backend.accounts.tokens import Tokens
from backend.agent import api as agents
from backend.agent import export
from backend.agent.inference.access import open_models, open_session
from backend.agent.inference.registry import Models
from backend.agent.runs import api as runs
from backend.agent.runs.watch import Watch
from backend.agent.thread import api as threads
from backend.doors.openai import api as openai_door
from backend.kit import http, redis, tasks
from backend.kit.db import APP_ROLE, Database, DatabaseUnavailable
from backend.kit.disk import Disk
from backend.kit.http import Ground, refusals
from backend.kit.limits import Meter
from backend.kit.metrics import CONTENT_TYPE, HttpMetrics
from backend.kit.problems import DiskFull
from backend.kit.seal import Sealer
from backend.kit.settings import Settings
from backend.kit.settings import settings as process_settings
from backend.services.attachments import api as attachments
from backend.services.notifications import api as notifications
from backend.services.webhooks import api as webhooks
from backend.web import mount_web

Features = Callable[[], Awaitable[dict[str, Feature]]]
_TRY_AGAIN_SECONDS = 60.0
_TRIED_WITHIN_SECONDS = 5.0
WEB = Path(__file__).parents[1] / "frontend" / "out"


class HealthPart(BaseModel):
    """One part of the product: whether it works, and what to do when it does not."""

    name: str
    ok: bool
    detail: str
    fix: str


class Ready(BaseModel):
    """Whether this process can serve. `ok` is about what nothing works without; other parts may be off."""

    ok: bool
    parts: list[HealthPart]


class UnguardedRole(RuntimeError):
    """The database role is not bound by row-level security"""


def create_app(given: Settings | None = None, features: Features | None = None) -> FastAPI:
    """The app. Its settings name the database as the product's role, Redis and the secret key; nothing is opened before it starts.

    `features` says which parts of the product work on this machine.
    """
    settings = given or process_settings()

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with contextlib.AsyncExitStack() as stack:
            app.state.ground = ground = await _open(settings, stack)
            _open_doors(app, ground, stack)
            app.state.models, app.state.watch = await _open_agents(ground, stack)
            yield

    metrics = HttpMetrics()
    app = FastAPI(
        title="VIBE AI",
        version=__version__,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url="/api/openapi.json",
        generate_unique_id_function=http.operation_id,
        responses=refusals(400, 422, 429, 503),
    )
    app.state.features = features or _Features(settings)
    app.state.metrics = metrics
    app.state.export_parts = (export.agents, export.threads)
    http.install(app)
    for router in (
        runs.router,  # first, for it is asked most
        threads.router,
        accounts.open_router,
        accounts.router,
        gotrue.router,
        supabase.router,
        agents.router,
        agents.agent_router,
        openai_door.router,
        webhooks.router,
        notifications.router,
        attachments.router,
        _health,
    ):
        app.include_router(router)
    mount_web(app, WEB)
    hosts = http.Hosts(settings.vibe_host, settings.vibe_public_url)
    app.add_middleware(http.Edge, hosts=hosts, session_cookie=SESSION_COOKIE, count=metrics.count, uploads={attachments.PATH: attachments.largest(settings)})
    return app


async def _open(settings: Settings, stack: contextlib.AsyncExitStack) -> Ground:
    """Open what the process stands on; it closes with the stack, in reverse order."""
    if settings.database_url is None or settings.redis_dsn is None or settings.vibe_secret_key is None:
        raise RuntimeError(
            "an api process needs DATABASE_URL, REDIS_URL and VIBE_SECRET_KEY; `vibe api` settles them"
        )
    database = await Database.connect(settings.database_url.get_secret_value())
    stack.push_async_callback(database.close)
    if not await database.is_guarded():
        raise UnguardedRole(
            f"Connect as the role {APP_ROLE}, as `vibe api` does; another role would see every account."
        )
    client = redis.connect(settings.redis_dsn)
    stack.push_async_callback(client.aclose)
    tasks.connect(settings.redis_dsn)
    stack.callback(tasks.disconnect)
    disk = Disk(settings.vibe_data_dir, settings.vibe_min_free_mb)
    meter = Meter(client)
    stack.push_async_callback(meter.close)
    return Ground(settings, database, client, Sealer(settings.vibe_secret_key.get_secret_value()), disk, meter)


def _open_doors(app: FastAPI, on: Ground, stack: contextlib.AsyncExitStack) -> None:
    """Who makes and checks access tokens, who sends mails, and the Supabase project that people sign in through, if there is one."""
    app.state.tokens = Tokens(on.database, on.sealer, on.settings.vibe_public_url)
    app.state.mailer = Mailer(on.settings)
    stack.push_async_callback(app.state.mailer.close)
    app.state.supabase = None
    if on.settings.supabase_url is not None:
        app.state.supabase = Supabase(on.settings, on.database, on.redis, on.sealer)
        stack.push_async_callback(app.state.supabase.close)
    app.state.token_checker = app.state.supabase or app.state.tokens


async def _open_agents(on: Ground, stack: contextlib.AsyncExitStack) -> tuple[Models, Watch]:
    """The way to model providers, and the one subscription that all watchers of runs share."""
    session = await stack.enter_async_context(open_session(on.settings))
    models = open_models(on.settings, session)
    stack.push_async_callback(models.aclose)
    assert on.settings.redis_dsn is not None
    watch = Watch(on.database, on.redis, on.settings.redis_dsn)
    await watch.start()
    stack.push_async_callback(watch.close)
    return models, watch


class _Features:
    """Which parts of the product work on this machine. The sandbox is tried by starting one; a bad answer is tried again a minute later."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._trying: asyncio.Task[Feature] | None = None
        self._tried_at = 0.0

    async def __call__(self) -> dict[str, Feature]:
        return {"sandbox": await self._sandbox()}

    async def _sandbox(self) -> Feature:
        trying = self._trying
        is_old = time.monotonic() - self._tried_at > _TRY_AGAIN_SECONDS
        if trying is None or (trying.done() and is_old and not trying.result().on):
            trying = self._trying = asyncio.create_task(self._try_sandbox())
            self._tried_at = time.monotonic()
        await asyncio.wait({trying}, timeout=_TRIED_WITHIN_SECONDS)
        if not trying.done():
            return Feature(
                on=False, reason="The sandbox is still being tried.", fix="Look again in a moment."
            )
        return trying.result()

    async def _try_sandbox(self) -> Feature:
        if self._settings.vibe_sandbox == "off":
            return Feature(on=False, reason="The sandbox is turned off.", fix="Set VIBE_SANDBOX=bubblewrap.")
        from backend.sandbox.bubblewrap import Bubblewrap

        try:
            found = await Bubblewrap(self._settings.vibe_data_dir / "workspaces").check()
        except OSError as error:
            return Feature(
                on=False, reason=f"The sandbox could not be tried: {error}.", fix="`vibe doctor` says more."
            )
        return Feature(on=found.ok, reason=found.reason, fix=found.fix)


# Health -----------------------------------------------------------------------------------------------------------------

_health = APIRouter(tags=["health"])


@_health.get("/health/live", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
async def live() -> Response:
    """This process runs."""
    return Response("ok", media_type="text/plain")


@_health.get(
    "/health/ready",
    responses={503: {"model": Ready, "description": "A part that everything needs does not work"}},
)
async def ready(request: Request, response: Response) -> Ready:
    """Every part, whether it works, and what to do when it does not."""
    on: Ground = request.app.state.ground
    needed = await asyncio.gather(_database(on), _redis(on), _disk(on))
    features: dict[str, Feature] = await request.app.state.features()
    others = [
        HealthPart(name=name, ok=one.on, detail=one.reason, fix=one.fix) for name, one in features.items()
    ]
    answer = Ready(ok=all(part.ok for part in needed), parts=[*needed, *others, _web()])
    if not answer.ok:
        response.status_code = 503
    return answer


@_health.get("/metrics", include_in_schema=False)
async def metrics(request: Request) -> Response:
    """Numbers for Prometheus."""
    counted: HttpMetrics = request.app.state.metrics
    return Response(counted.text(), headers={"Content-Type": CONTENT_TYPE})


async def _database(on: Ground) -> HealthPart:
    fix = "Look at postgres.log in the data directory, or check DATABASE_URL; `vibe doctor` says more."
    try:
        async with asyncio.timeout(3):
            await on.database.ping()
    except (DatabaseUnavailable, TimeoutError) as error:
        return HealthPart(
            name="database", ok=False, detail=f"Postgres does not answer. {error}".strip(), fix=fix
        )
    return HealthPart(name="database", ok=True, detail="Postgres answers.", fix="")


async def _redis(on: Ground) -> HealthPart:
    fix = "Look at valkey.log in the data directory, or check REDIS_URL; `vibe doctor` says more."
    try:
        async with asyncio.timeout(3):
            await on.redis.ping()
    except redis.LOST as error:
        return HealthPart(name="redis", ok=False, detail=f"Redis does not answer. {error}".strip(), fix=fix)
    return HealthPart(name="redis", ok=True, detail="Redis answers.", fix="")


async def _disk(on: Ground) -> HealthPart:
    try:
        on.disk.check()
    except DiskFull as full:
        return HealthPart(
            name="disk", ok=False, detail=full.detail, fix="Free some space, or lower VIBE_MIN_FREE_MB."
        )
    return HealthPart(
        name="disk", ok=True, detail=f"{on.disk.free_bytes() // 1_000_000} MB are free.", fix=""
    )


def _web() -> HealthPart:
    if (WEB / "index.html").exists():
        return HealthPart(name="web", ok=True, detail="The pages are built.", fix="")
    return HealthPart(
        name="web",
        ok=False,
        detail="The pages are not built.",
        fix="Run `make up`, or `npm run build` in frontend/.",
    )
