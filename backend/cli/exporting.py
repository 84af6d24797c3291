"""`vibe export`: the whole account as a ZIP."""

import os
from pathlib import Path

from backend.cli.asking import product


async def export(url: str | None, file: Path) -> int:
    """Write the account's export to a file that appears when it is whole; its size in bytes. Raises `Refused`."""
    partial = file.with_name(f".{file.name}.part")
    try:
        async with product(url) as talk:
            with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as target:
                await talk.download("/api/accounts/export", target)
        partial.replace(file)
    finally:
        partial.unlink(missing_ok=True)
    return file.stat().st_size
