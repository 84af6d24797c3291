"""Wake-ups of the agent core. Each looks at its row; the executor is the worker's."""

from uuid import UUID

from backend.agent.runs import service
from backend.agent.runs.executor import RunExecutor
from backend.kit.tasks import task

_executor: RunExecutor | None = None


def serve(executor: RunExecutor) -> None:
    """Make this the executor of the process."""
    global _executor
    _executor = executor


@task(service.WAKE)
async def run(run_id: str) -> None:
    """A run may be due."""
    assert _executor is not None
    await _executor.wake(UUID(run_id))


@task(service.STOP)
async def stop(run_id: str) -> None:
    """A run is to stop: tell whichever worker holds it, and wake it if it waits."""
    assert _executor is not None
    await _executor.stop(UUID(run_id))
