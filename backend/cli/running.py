"""How a command's work is run: an expected failure is one line and exit code 1."""

import asyncio
import sys
from collections.abc import Coroutine
from typing import Any, NoReturn

import typer

from backend.cli.errors import Failure
from backend.embedded.errors import EmbeddedError
from backend.kit.problems import Problem
from backend.sandbox.protocol import SandboxError


def fail(error: object) -> NoReturn:
    """Say what went wrong, and end."""
    print(f"vibe: {error}", file=sys.stderr)
    raise typer.Exit(1)


def run(work: Coroutine[Any, Any, Any]) -> Any:
    """Run a command's work to its result."""
    try:
        return asyncio.run(work)
    except (Failure, EmbeddedError, SandboxError, Problem, OSError) as error:
        fail(error)
