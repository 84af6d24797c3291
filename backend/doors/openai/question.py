"""What is asked, whichever of OpenAI's two wires it came by."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import UUID

from backend.agent.inference.base import ChatMessage, ModelRequest, Options, ToolSpec
from backend.doors.openai.errors import Refused
from backend.doors.openai.schemas import Part

_TEXTS = {"text", "input_text", "output_text"}


@dataclass(frozen=True)
class Question:
    """A conversation to be continued. `instructions` are the client's system texts, which stand before `messages`."""

    model: str
    messages: Sequence[ChatMessage]
    instructions: str = ""
    tools: Sequence[ToolSpec] = ()
    temperature: float | None = None
    max_tokens: int | None = None
    options: Options = field(default_factory=Options)
    thread_id: UUID | None = None  # to go on with
    perhaps_thread_id: UUID | None = None  # to go on with if there is such a thread
    is_whole: bool = True  # whether `messages` tell the conversation from its beginning; else they only add to the thread

    def request(self, request_id: str) -> ModelRequest:
        """The question as a model call."""
        system = (ChatMessage("system", self.instructions),) if self.instructions else ()
        return ModelRequest(self.model, (*system, *self.messages), self.tools, self.temperature, self.max_tokens, request_id, self.options)


def text_of(content: str | Sequence[Part] | None, at: str) -> str:
    """A message's text. Raises `Refused` for a part that is no text."""
    if content is None or isinstance(content, str):
        return content or ""
    texts = []
    for number, part in enumerate(content):
        if part.type == "refusal":
            texts.append(part.refusal or "")
        elif part.type in _TEXTS:
            texts.append(part.text or "")
        else:
            raise Refused(f"Only text can be read here yet, not a part of the type {part.type}.", param=f"{at}.{number}", code="unsupported_content")
    return "".join(texts)


def thread_named(header: UUID | None, metadata: dict[str, str] | None) -> UUID | None:
    """The thread that a client names in the header `X-Thread-Id` or in `metadata.thread_id`."""
    named = (metadata or {}).get("thread_id")
    if header is not None or not named:
        return header
    found = thread_perhaps(named)
    if found is None:
        raise Refused("This is no thread's id.", param="metadata.thread_id")
    return found


def thread_perhaps(text: str | None) -> UUID | None:
    """A text as an id, if it is one."""
    try:
        return UUID(text) if text else None
    except ValueError:
        return None
