"""The wake-up of deliveries that somebody waits for; the courier is the worker's."""

from backend.kit.tasks import task
from backend.services.webhooks import service
from backend.services.webhooks.courier import Courier

_courier: Courier | None = None


def serve(courier: Courier) -> None:
    """Make this the courier of the process."""
    global _courier
    _courier = courier


@task(service.WAKE)
async def deliver() -> None:
    """Something may be due."""
    assert _courier is not None
    _courier.poke()
