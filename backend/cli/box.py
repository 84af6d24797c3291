"""`vibe sandbox exec`: a script in a fresh sandbox with the default policy."""

import sys
from uuid import uuid4

from backend.kit.settings import Settings
from backend.sandbox.bubblewrap import Bubblewrap
from backend.sandbox.protocol import SandboxSpec, Stream

_SECONDS = 600.0


async def execute(settings: Settings, script: str) -> int:
    """Run `script` with sh, pass its output on as it comes, and return its exit code; the workspace is deleted after it."""
    driver = Bubblewrap(settings.vibe_data_dir / "scratch")
    workspace = f"exec-{uuid4()}"
    box = await driver.open(SandboxSpec(workspace))
    try:
        done = await box.exec(["sh", "-s"], stdin=script.encode(), timeout=_SECONDS, on_output=_pass_on)
    finally:
        await box.close()
        await driver.destroy_workspace(workspace)
    if done.status != "ok":
        print(f"vibe: the script was ended: {done.status}", file=sys.stderr)
    return done.exit_code


def _pass_on(stream: Stream, data: bytes) -> None:
    target = sys.stdout if stream == "stdout" else sys.stderr
    target.buffer.write(data)
    target.buffer.flush()
