"""`vibe agents`: list, show, take out, bring in, delete."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from backend.cli.asking import Json, Url, pages, product, show
from backend.cli.running import run

app = typer.Typer(no_args_is_help=True, help="Agents: list, show, export, import, delete.")
Agent = Annotated[str, typer.Argument(help="Name or id of the agent.")]


@app.command("list")
def list_agents(url: Url = None, as_json: Json = False) -> None:
    """All agents, newest first.

    Example: `vibe agents list --json | jq -r '.[].agent_id'`
    """

    async def work() -> list[dict[str, Any]]:
        async with product(url) as talk:
            return await pages(talk, "/api/agents")

    show(run(work()), as_json, {"agent_id": "id", "name": "name", "active_version": "version", "updated_at": "changed"})


@app.command("show")
def show_agent(agent: Agent, url: Url = None) -> None:
    """One agent with its active configuration, as JSON.

    Example: `vibe agents show Researcher`
    """

    async def work() -> Any:
        async with product(url) as talk:
            return await talk.call("GET", f"/api/agents/{await talk.agent(agent)}")

    show(run(work()), True)


@app.command("export")
def export_agent(
    agent: Agent,
    version: Annotated[int | None, typer.Option(min=1, help="An older version instead of the active one.")] = None,
    url: Url = None,
) -> None:
    """Write an agent as YAML to standard output.

    Example: `vibe agents export Researcher > researcher.yaml`
    """

    async def work() -> str:
        async with product(url) as talk:
            chosen = f"?version={version}" if version else ""
            return await talk.text(f"/api/agents/{await talk.agent(agent)}/export{chosen}")

    sys.stdout.write(run(work()))


@app.command("import")
def import_agent(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, allow_dash=True, help="A YAML file, or - for standard input.")],
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Make an agent of a YAML file.

    Example: `vibe agents import researcher.yaml`
    """
    text = sys.stdin.read() if str(file) == "-" else file.read_text()

    async def work() -> Any:
        async with product(url) as talk:
            return await talk.call("POST", "/api/agents/import", {"yaml": text})

    show(run(work()), as_json, {"agent_id": "id", "name": "name"})


@app.command("delete")
def delete_agent(
    agent: Agent, yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False, url: Url = None
) -> None:
    """Delete an agent, after asking.

    Example: `vibe agents delete Researcher --yes`
    """
    if not yes:
        if not sys.stdin.isatty():
            raise typer.BadParameter("There is nobody to ask here; say --yes.")
        typer.confirm(f"Delete the agent {agent}?", abort=True)

    async def work() -> None:
        async with product(url) as talk:
            await talk.call("DELETE", f"/api/agents/{await talk.agent(agent)}")

    run(work())
