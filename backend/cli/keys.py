"""`vibe keys`: keys for programs."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer

from backend.accounts.schemas import SCOPES
from backend.cli.asking import Json, Url, pages, product, show
from backend.cli.running import run
from backend.cli.talk import Refused

app = typer.Typer(no_args_is_help=True, help="API keys: list, create, revoke.")
_COLUMNS = {"key_id": "id", "name": "name", "prefix": "begins", "scopes": "may", "last_used_at": "last used", "expires_at": "ends"}


@app.command("list")
def list_keys(url: Url = None, as_json: Json = False) -> None:
    """All keys of the account that work, newest first.

    Example: `vibe keys list`
    """

    async def work() -> Any:
        async with product(url) as talk:
            return await pages(talk, "/api/accounts/api-keys")

    show(run(work()), as_json, _COLUMNS)


@app.command("create")
def create(
    name: Annotated[str, typer.Argument(help="What the key is for.")],
    scope: Annotated[list[str] | None, typer.Option(help=f"What it may do: {', '.join(SCOPES)}; may be given more than once. All without it.")] = None,
    days: Annotated[int | None, typer.Option(min=1, max=3650, help="How long it works; without it for good.")] = None,
    as_json: Json = False,
) -> None:
    """Print a new key; it is shown this once. Only on the product's own machine: elsewhere one signs in, for a key cannot make keys.

    Examples: `export VIBE_API_KEY=$(vibe keys create laptop)` · `vibe keys create ci --scope write --days 90`
    """
    from pydantic import ValidationError

    from backend.accounts.schemas import CreatedApiKey, NewApiKey
    from backend.cli import people
    from backend.cli.place import Place
    from backend.kit.settings import settings

    given: dict[str, Any] = {"name": name} | ({"scopes": scope} if scope else {})
    if days is not None:
        given["expires_at"] = datetime.now(UTC) + timedelta(days=days)
    try:
        new = NewApiKey.model_validate(given)
    except ValidationError as error:
        raise typer.BadParameter(str(error.errors()[0]["msg"])) from None
    made: CreatedApiKey = run(people.new_key(Place(settings(), print), new))
    if as_json:
        show(made.model_dump(mode="json"), True)
    else:
        print(made.key)


@app.command("revoke")
def revoke(key: Annotated[str, typer.Argument(help="Id, beginning or name of the key.")], url: Url = None, as_json: Json = False) -> None:
    """Make a key worthless at once.

    Example: `vibe keys revoke ci`
    """

    async def work() -> dict[str, Any]:
        async with product(url) as talk:
            found = [one for one in await pages(talk, "/api/accounts/api-keys") if key in (one["key_id"], one["prefix"], one["name"])]
            if len(found) != 1:
                raise Refused(f"{len(found) or 'No'} keys are {key!r}. `vibe keys list` shows their ids.")
            await talk.call("DELETE", f"/api/accounts/api-keys/{found[0]['key_id']}")
            return found[0]

    revoked = run(work())
    if as_json:
        show(revoked, True)
