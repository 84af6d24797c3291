"""`vibe members`: who works in the account, and who is asked to."""

import sys
from typing import Annotated, Any, get_args

import typer

from backend.accounts.schemas import Role
from backend.cli.asking import Json, Url, product, show
from backend.cli.running import run
from backend.cli.talk import Refused, Talk

app = typer.Typer(no_args_is_help=True, help="The people of the account: list, invite, role, remove.")
Member = Annotated[str, typer.Argument(help="Email or id of the member.")]
_ROLES = ", ".join(get_args(Role))


@app.command("list")
def list_members(url: Url = None, as_json: Json = False) -> None:
    """Everybody in the account, longest first.

    Example: `vibe members list`
    """

    async def work() -> Any:
        async with product(url) as talk:
            return await talk.call("GET", "/api/accounts/members")

    show(run(work()), as_json, {"user_id": "id", "email": "email", "name": "name", "role": "role", "joined_at": "since"})


@app.command("invite")
def invite(
    email: Annotated[str, typer.Argument(help="Whom.")],
    role: Annotated[str, typer.Option(help=f"One of {_ROLES}.")] = "viewer",
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Print a link by which somebody comes into the account: once, within seven days. Nothing is mailed.

    Example: `vibe members invite eve@example.org --role editor`
    """

    async def work() -> Any:
        async with product(url) as talk:
            return await talk.call("POST", "/api/accounts/invitations", {"email": email, "role": role})

    made = run(work())
    if as_json:
        show(made, True)
    else:
        print(made["link"])


@app.command("role")
def set_role(
    member: Member, role: Annotated[str, typer.Argument(help=f"One of {_ROLES}.")], url: Url = None, as_json: Json = False
) -> None:
    """Give a member another role.

    Example: `vibe members role eve@example.org approver`
    """

    async def work() -> Any:
        async with product(url) as talk:
            return await talk.call("PATCH", f"/api/accounts/members/{await _id(talk, member)}", {"role": role})

    show(run(work()), as_json, {"user_id": "id", "email": "email", "role": "role"})


@app.command("remove")
def remove(
    member: Member, yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False, url: Url = None, as_json: Json = False
) -> None:
    """Take a member out of the account; his keys stop working at once.

    Example: `vibe members remove eve@example.org --yes`
    """
    if not yes:
        if not sys.stdin.isatty():
            raise typer.BadParameter("There is nobody to ask here; say --yes.")
        typer.confirm(f"Remove {member}?", abort=True)

    async def work() -> str:
        async with product(url) as talk:
            user_id = await _id(talk, member)
            await talk.call("DELETE", f"/api/accounts/members/{user_id}")
            return user_id

    removed = run(work())
    if as_json:
        show({"user_id": removed}, True)


async def _id(talk: Talk, member: str) -> str:
    """The id of the member of this email or id."""
    for one in await talk.call("GET", "/api/accounts/members"):
        if member.lower() in (one["email"].lower(), one["user_id"]):
            return str(one["user_id"])
    raise Refused(f"Nobody in the account is {member!r}. `vibe members list` shows everybody.")
