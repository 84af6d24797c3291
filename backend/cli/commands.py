"""The commands of `vibe`. Each says what it does, with examples; the work is done in the modules beside this one."""

import json
import socket
import sys
from pathlib import Path
from typing import Annotated

import typer

from backend.cli import agents, keys, members
from backend.cli.errors import Failure
from backend.cli.place import Place
from backend.cli.running import fail
from backend.cli.running import run as run_work
from backend.embedded.errors import EmbeddedError
from backend.kit.settings import Settings, settings

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    add_completion=False,
    help="VIBE AI: autonomous agents on your own machine.\n\n`vibe up` starts everything and prints one address. "
    "`vibe run \"What can you do?\"` sends a message to an agent. `vibe doctor` says what works here.",
)
owner = typer.Typer(no_args_is_help=True, help="The person who owns this installation.")
sandbox = typer.Typer(no_args_is_help=True, help="The sandbox that agents' tools run in.")
app.add_typer(owner, name="owner")
app.add_typer(sandbox, name="sandbox")
app.add_typer(agents.app, name="agents")
app.add_typer(members.app, name="members")
app.add_typer(keys.app, name="keys")


def say(text: str) -> None:
    """A line on the terminal, at once."""
    print(text, flush=True)


@app.command()
def up(
    host: Annotated[str | None, typer.Option(help="Address to listen on; others than this machine's own want an owner first.")] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="Port; without it 8700 or the next free one.")] = None,
) -> None:
    """Start everything on this machine and print one address. Ctrl-C stops it all, in order.

    Postgres and Valkey are embedded unless DATABASE_URL and REDIS_URL are set.

    Examples: `vibe up` · `vibe up --port 9000` · `VIBE_WORKERS=4 vibe up` · `VIBE_DATA_DIR=/srv/vibe vibe up`
    """
    from backend.cli.up import Up

    run_work(Up(settings(), say).run(host=host, port=port))


@app.command()
def migrate() -> None:
    """Bring the database's tables up to date. `vibe up` does it at every start; two at a time wait for each other."""
    async def work() -> None:
        place = Place(settings(), say)
        place.create()
        async with place.database() as dsn:
            applied = await place.migrate(dsn)
        say(f"applied: {', '.join(applied)}" if applied else "nothing to do")

    run_work(work())


def _entered(**more: object) -> Settings:
    """The settings of an api or worker process, with nothing left open: the database as the product's role, Redis, the secret key."""
    from backend.kit import log

    now = settings().model_copy(update=more)
    log.configure(now.vibe_log_level)
    place = Place(now, say)
    try:
        place.create()
        return place.settled()
    except (EmbeddedError, Failure) as error:
        fail(error)


@app.command()
def api(
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="Port to listen on.")] = None,
    fd: Annotated[int | None, typer.Option(help="A listening socket inherited from the parent process instead.")] = None,
) -> None:
    """Run one api process. Any number of them may run, on any machine, behind any load balancer.

    Example: `DATABASE_URL=postgresql://… REDIS_URL=redis://… vibe api --port 8701`
    """
    from backend.cli.listen import bind

    now = settings()
    try:
        bound = socket.socket(fileno=fd) if fd is not None else bind(host or now.vibe_host, now.vibe_port if port is None else port)
    except Failure as error:
        fail(error)
    where = bound.getsockname()
    ready = _entered(vibe_host=where[0], vibe_port=where[1])
    assert ready.database_url is not None
    if fd is None:  # a supervisor that hands over its socket has looked already
        from backend.cli import people

        run_work(people.open_to_others(ready.database_url.get_secret_value(), where[0]))

    import uvicorn

    from backend.api import create_app

    app = create_app(ready)

    class Server(uvicorn.Server):
        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            app.state.watch.leave()
            await super().shutdown(sockets)

    config = uvicorn.Config(
        app, loop="uvloop", http="httptools", ws="none", lifespan="on", log_config=None,
        access_log=False, server_header=False, date_header=False, timeout_graceful_shutdown=3, backlog=512,
    )  # fmt: skip
    Server(config).run(sockets=[bound])


@app.command()
def worker() -> None:
    """Run one worker process, which makes runs go on. Any number of them may run, on any machine.

    Example: `DATABASE_URL=postgresql://… REDIS_URL=redis://… vibe worker`
    """
    ready = _entered()

    from backend.worker import main

    main(ready)


@app.command()
def doctor(as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False) -> None:
    """Say what works on this machine, and how to mend what does not. Exit code 1 when something is broken."""
    from dataclasses import asdict

    from backend.cli.doctor import examine

    findings = run_work(examine(settings()))
    if as_json:
        say(json.dumps([asdict(finding) for finding in findings]))
    else:
        for finding in findings:
            say(f"{finding.state:7}{finding.part:11}{finding.detail}")
            if finding.fix:
                say(f"{'':18}→ {finding.fix}")
    if any(finding.state == "broken" for finding in findings):
        raise typer.Exit(1)


@app.command()
def env(write: Annotated[bool, typer.Option("--write", help="Write .env.example instead of printing it.")] = False) -> None:
    """Print every setting with its meaning and default, as a file to start an `.env` from.

    Example: `vibe env > .env`
    """
    from backend.cli.environment import ROOT, example

    if write:
        (ROOT / ".env.example").write_text(example())
    else:
        sys.stdout.write(example())


@app.command()
def openapi(stdout: Annotated[bool, typer.Option("--stdout", help="Print it instead.")] = False) -> None:
    """Write the API's description to frontend/openapi.json, which the web client's types are generated from."""
    from backend.cli.environment import ROOT, openapi_text

    if stdout:
        sys.stdout.write(openapi_text())
    else:
        (ROOT / "frontend" / "openapi.json").write_text(openapi_text())


@app.command()
def run(
    message: Annotated[str, typer.Argument(help="What you say to the agent.")],
    agent: Annotated[str | None, typer.Option(help="Name or id of the agent; without it the newest.")] = None,
    thread: Annotated[str | None, typer.Option(help="Go on in this thread.")] = None,
    url: Annotated[str | None, typer.Option(help="Where the product is; without it the one that runs here.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Every event as a line of JSON.")] = False,
) -> None:
    """Send a message to an agent and watch it work. Ctrl-C stops the run, not only the watching.

    Elsewhere than on the product's own machine, set VIBE_API_KEY (Settings > API keys, or `vibe keys create`).

    Examples: `vibe run "List the files you have"` · `vibe run --agent Researcher --json "…" | jq .type`
    """
    from backend.cli import talk
    from backend.cli.asking import product

    async def work() -> int:
        async with product(url) as there:
            return await talk.run(there, message, agent=agent, thread_id=thread, as_json=as_json)

    raise typer.Exit(run_work(work()))


@sandbox.command("exec")
def sandbox_exec() -> None:
    """Run a script from standard input in a fresh sandbox with the default policy; its exit code is passed on.

    Example: `echo 'id; ls -la /' | vibe sandbox exec`
    """
    from backend.cli.box import execute

    raise typer.Exit(run_work(execute(settings(), sys.stdin.read())))


@app.command()
def backup(file: Annotated[Path, typer.Argument(help="Where to write it.")]) -> None:
    """Put the database, the secrets and all workspaces into one file. The product may go on running.

    Example: `vibe backup vibe-$(date +%F).backup`
    """
    from backend.cli.backup import back_up

    run_work(back_up(Place(settings(), say), file, say))


@app.command()
def restore(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="A file that `vibe backup` wrote.")],
    force: Annotated[bool, typer.Option("--force", help="Move data that is there aside, instead of refusing.")] = False,
) -> None:
    """Bring a backup back, into an empty data directory. Every checksum is verified before anything changes.

    Example: `VIBE_DATA_DIR=/srv/vibe-new vibe restore vibe-2026-11-22.backup`
    """
    from backend.cli.backup import restore as bring_back

    run_work(bring_back(Place(settings(), say), file, force=force, say=say))


@app.command("export")
def export_account(
    file: Annotated[Path, typer.Argument(dir_okay=False, help="Where to write it.")],
    url: Annotated[str | None, typer.Option(help="Where the product is; without it the one that runs here.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Write everything of the account into a ZIP: tables as JSON, agents as YAML, threads as JSON. Secrets are left out.

    Example: `vibe export account-$(date +%F).zip`
    """
    from backend.cli.exporting import export

    size = run_work(export(url, file))
    say(json.dumps({"file": str(file), "bytes": size}) if as_json else f"{file}: {size} bytes")


@app.command()
def setup() -> None:
    """Print a new link that creates the owner; the one that was printed before is worthless then."""
    from backend.cli import people

    say(run_work(people.setup_link(Place(settings(), say))))


@owner.command("create")
def owner_create(
    email: Annotated[str, typer.Option(prompt=True, help="What the owner signs in with.")],
    name: Annotated[str, typer.Option(prompt=True, help="How the owner is called.")],
    password: Annotated[
        str, typer.Option(prompt=True, hide_input=True, confirmation_prompt=True, envvar="VIBE_OWNER_PASSWORD", help="At least 10 signs.")
    ],
) -> None:
    """Create the owner from the terminal instead of in the browser.

    Example: `VIBE_OWNER_PASSWORD=… vibe owner create --email ann@example.org --name Ann`
    """
    from backend.cli import people

    run_work(people.create_owner(Place(settings(), say), email, name, password))
    say(f"{email} is the owner of this installation.")


@owner.command("password")
def owner_password(
    email: Annotated[str, typer.Option(prompt=True, help="Whose password.")],
    password: Annotated[
        str, typer.Option(prompt=True, hide_input=True, confirmation_prompt=True, envvar="VIBE_OWNER_PASSWORD", help="At least 10 signs.")
    ],
) -> None:
    """Set a new password when it is forgotten; every session ends.

    Example: `VIBE_OWNER_PASSWORD=… vibe owner password --email ann@example.org`
    """
    from backend.cli import people

    run_work(people.reset_password(Place(settings(), say), email, password))
    say(f"{email} has a new password.")
