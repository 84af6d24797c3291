"""The sandbox that the settings ask for, or the reason why there is none."""

from backend.kit.settings import Settings
from backend.sandbox.bubblewrap import Bubblewrap
from backend.sandbox.service import SandboxManager


async def open_boxes(settings: Settings) -> tuple[SandboxManager | None, str]:
    """The manager of this process's sandboxes, ready; or None with the reason and the fix. Nothing ever runs on the host instead."""
    if settings.vibe_sandbox == "off":
        return None, "The sandbox is turned off. Set VIBE_SANDBOX=bubblewrap."
    manager = SandboxManager(
        Bubblewrap(settings.vibe_data_dir / "workspaces", private_targets=settings.private_targets),
        most=settings.vibe_max_sandboxes,
    )
    availability = await manager.start()
    if availability.ok:
        return manager, ""
    await manager.close()
    return None, f"{availability.reason} {availability.fix}".strip()
