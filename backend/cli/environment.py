"""`.env.example`, generated from the settings class."""

import textwrap
from pathlib import Path

from backend.kit.settings import Settings

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / ".env.example"
_HEAD = """\
# Settings of VIBE AI. Everything has a default: an empty file is a valid one. Copy this file to .env and set what you need.
# Written by `vibe env --write` from backend/kit/settings.py; do not edit it here.
"""


def example() -> str:
    """The text of `.env.example`."""
    lines = [_HEAD]
    for name, field in Settings.model_fields.items():
        lines += [f"# {part}" for part in textwrap.wrap(field.description or "", 110)]
        default = field.get_default()
        shown = str(default) if isinstance(default, str | int | float) else ""
        lines.append(f"#{name.upper()}={shown}\n")
    return "\n".join(lines)


def openapi_text() -> str:
    """The API's description as JSON, as it is kept in the repository."""
    import json

    from backend.api import create_app

    app = create_app(Settings(_env_file=None))
    return json.dumps(app.openapi(), indent=1, sort_keys=True) + "\n"
