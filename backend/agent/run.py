"""AgentRunner: the loop. Everything it knows is in Postgres; whatever it was doing when its worker died, the next one goes on from the rows.

load → open tool calls? run them → ask the model → save its answer and calls → … until an answer without calls, a limit or a stop
"""

import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any
from uuid import UUID

import orjson

from backend.agent.answer import Asker, LimitReached
from backend.agent.calls import Calls, results_of
from backend.agent.inference.errors import ModelError
from backend.agent.inference.registry import Model
from backend.agent.interrupts import HandOver, Stopped, TimedOut, WaitsForPerson
from backend.agent.thread.manager import LeaseLost
from backend.agent.tools.base import Tool
from backend.agent.tools.manager import ToolManager
from backend.agent.turn import Turn
from backend.kit.db import DatabaseUnavailable
from backend.kit.problems import Problem

log = logging.getLogger(__name__)

_REPEATS = 3  # equal rounds of calls with equal results before the run is ended as a loop
_LONGEST_ROUND = 3


class LoopDetected(Problem):
    """The agent repeated itself without getting anywhere"""

    status = 409


class ModelCallFailed(Problem):
    """The model call failed"""

    status = 502


class RunFailed(Problem):
    """The run failed inside the platform"""


class AgentRunner:
    """Runs one turn of one agent in one thread."""

    def __init__(
        self, agent_id: UUID, thread_id: UUID, model_name: str, tools: Sequence[Tool], *, turn: Turn, get_model: Callable[[str], Model]
    ) -> None:
        self.agent_id = agent_id
        self.thread_id = thread_id
        self.tool_manager = ToolManager(tools)
        self.thread_manager = turn.thread_manager
        self._turn = turn
        self._calls = Calls(turn, self.tool_manager)
        self._asker = Asker(turn, self._calls, model_name, get_model)

    async def run(self, input_message: str) -> AsyncIterator[str]:
        """Answer the message, which stands in the thread already; yields each text of the agent when it is saved. Returns at the run's true end.

        Raises `LeaseLost`, `HandOver` or `WaitsForPerson` when the run goes on elsewhere or later, and `DatabaseUnavailable` when it
        cannot be written.
        """
        try:
            while True:
                self._turn.interrupts.check()
                if open_calls := self._calls.open():
                    await self._calls.run(open_calls)
                    self._check_loop()
                    continue
                self._check_steps()
                answer = await self._asker.answer()
                if answer.content:
                    yield answer.content
                if not answer.tool_calls:
                    return
        except (LeaseLost, HandOver, WaitsForPerson, DatabaseUnavailable):
            raise
        except Stopped:
            await self._end("stopped", None)
        except TimedOut as error:
            await self._end("timed_out", LimitReached(str(error), limit="time").body())
        except ModelError as error:
            await self._end("failed", _model_problem(error))
        except Problem as problem:
            await self._end("failed", problem.body())
        except Exception:
            log.exception("a run failed inside the platform")
            await self._end("failed", RunFailed("The run's id names it in the log.").body(str(self._turn.run_id)))

    async def _end(self, status: str, problem: dict[str, Any] | None) -> None:
        """Bring the run to its end: keep what was written, answer every open call, say why."""
        given_up = [self._calls.given_up(planned) for planned in self._calls.open()]
        if (partial := self._turn.stream.state["partial"]) is not None and not given_up:
            await self._asker.keep_partial(partial)
        await self._turn.save_results(given_up, end=status, problem=problem)

    def _check_steps(self) -> None:
        if self._turn.steps >= (most := self._turn.config.limits.max_steps):
            raise LimitReached(f"The run made {most} model calls, as many as its agent allows.", limit="steps")

    def _check_loop(self) -> None:
        """End a run that does the same and gets the same again and again: one call, or two or three in turns."""
        seen = [_fingerprint(call, result) for call, result in results_of(self._turn.mine())]
        for length in range(1, _LONGEST_ROUND + 1):
            tail = seen[-length * _REPEATS :]
            if len(tail) == length * _REPEATS and tail == tail[:length] * _REPEATS:
                names = ", ".join(dict.fromkeys(name for name, _, _ in tail))
                raise LoopDetected(f"{names}: the same {'call' if length == 1 else 'calls'} with the same result {_REPEATS} times in a row.")


def _fingerprint(call: Mapping[str, Any], result: Mapping[str, Any]) -> tuple[str, str, str]:
    try:
        arguments = orjson.dumps(orjson.loads(call["arguments"] or "{}"), option=orjson.OPT_SORT_KEYS).decode()
    except orjson.JSONDecodeError:
        arguments = call["arguments"]
    return call["name"], arguments, result["content"]


def _model_problem(error: ModelError) -> dict[str, Any]:
    """A failed model call for the watcher: which provider, why, and which setting would mend it."""
    title = (type(error).__doc__ or "").strip().splitlines()[0].rstrip(".")
    body = ModelCallFailed(error.detail, provider=error.provider, setting=getattr(error, "setting", "")).body()
    return body | {"title": title, "type": f"{body['type']}:{type(error).__name__}"}
