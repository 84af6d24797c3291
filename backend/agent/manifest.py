"""An agent as YAML: read with the line and column of every mistake, written so that writing what was read changes no byte.

Reading goes over the parser's events instead of letting it build values: aliases, tags, duplicate keys, depth and size are
refused before they cost anything.
"""

import difflib
import math
import re
from collections.abc import Iterator
from typing import Any

import orjson
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.json_schema import GenerateJsonSchema
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, StreamMark
from ruamel.yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
    StreamEndEvent,
)
from ruamel.yaml.nodes import ScalarNode
from ruamel.yaml.reader import ReaderError

from backend.agent.config import NETWORK, AgentConfig
from backend.agent.schemas import ACTIONS, TOOL_NAMES, YamlError, tool_name

MAX_CHARACTERS = 400_000
_MAX_EVENTS = 10_000
_MAX_DEPTH = 12

Path = tuple[str | int, ...]
Place = tuple[int, int]


class InvalidYaml(Exception):
    """The YAML is not an agent; `errors` say where"""

    def __init__(self, errors: list[YamlError]) -> None:
        super().__init__(errors[0].message)
        self.errors = errors


class _Manifest(BaseModel):
    model_config = ConfigDict(extra="forbid", title="Agent")
    agent: AgentConfig


def read(text: str) -> AgentConfig:
    """The agent that a YAML describes; `InvalidYaml` with every mistake found."""
    data, places = _parse(text)
    try:
        manifest = _Manifest.model_validate_json(orjson.dumps(data), strict=True)
    except ValidationError as error:
        raise InvalidYaml(_located(error, data, places)) from None
    config, mistakes = checked(manifest.agent)
    if mistakes:
        raise InvalidYaml([_error(("agent", *path), message, places) for path, message in mistakes])
    return config


def checked(config: AgentConfig) -> tuple[AgentConfig, list[tuple[Path, str]]]:
    """The configuration with the overview's names of tools, and what names nothing that exists."""
    mistakes: list[tuple[Path, str]] = []
    tools: dict[str, None] = {}
    for index, given in enumerate(config.tools):
        if (name := tool_name(given)) is None:
            mistakes.append(
                (("tools", index), f"There is no tool named {given!r}.{_meant(given, TOOL_NAMES)}")
            )
        else:
            tools[name] = None
    permissions = {}
    for given, permission in config.permissions.items():
        name = given if given in ACTIONS or given == NETWORK else tool_name(given)
        if name is None and not config.mcp:  # what an MCP server offers is not known here
            meant = _meant(given, [*ACTIONS, *TOOL_NAMES, NETWORK])
            mistakes.append((("permissions", given), f"There is no action or tool named {given!r}.{meant}"))
        permissions[name or given] = permission
    if mistakes or (tuple(tools) == config.tools and permissions.keys() == config.permissions.keys()):
        return config, mistakes
    return config.model_copy(update={"tools": tuple(tools), "permissions": permissions}), []


def json_schema() -> dict[str, Any]:
    """The JSON Schema of the YAML, for editors."""
    schema = _Manifest.model_json_schema(mode="validation")
    names = [*TOOL_NAMES, *TOOL_NAMES.values()]
    schema["$defs"]["AgentConfig"]["properties"]["tools"]["items"] = {"enum": names}
    return {"$schema": GenerateJsonSchema.schema_dialect, "$id": "urn:vibe:agent"} | schema


def diff(old: AgentConfig, new: AgentConfig, old_name: str, new_name: str) -> str:
    """A unified diff of two configurations' YAML; empty when they are equal."""
    lines = difflib.unified_diff(
        write(old).split("\n"), write(new).split("\n"), old_name, new_name, lineterm=""
    )
    return "\n".join(lines)


# Reading --------------------------------------------------------------------------------------------------------------


class _Places(dict[Path, Place]):
    """Where each value stands; `keys` where its key stands."""

    def __init__(self) -> None:
        super().__init__()
        self.keys_at: dict[Path, Place] = {}


class _Stop(Exception):
    def __init__(self, mark: StreamMark, path: Path, message: str) -> None:
        super().__init__(message)
        self.mark, self.path = mark, path


def _parse(text: str) -> tuple[Any, _Places]:
    if len(text) > MAX_CHARACTERS:
        message = f"An agent has at most {MAX_CHARACTERS} characters of YAML."
        raise InvalidYaml([YamlError(line=1, column=1, loc="", message=message)])
    places = _Places()
    try:
        return _Reader(text, places).document(), places
    except _Stop as stop:
        raise _invalid(stop.mark.line, stop.mark.column, str(stop), stop.path) from None
    except ReaderError as error:
        before = text[: error.position]
        column = len(before) - before.rfind("\n") - 1
        raise _invalid(before.count("\n"), column, "This character cannot stand in YAML.") from None
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line, mark.column) if mark else (0, 0)
        raise _invalid(line, column, _sentence(error.problem or "This is not YAML")) from None


def _invalid(line: int, column: int, message: str, path: Path = ()) -> InvalidYaml:
    return InvalidYaml([YamlError(line=line + 1, column=column + 1, loc=_dotted(path), message=message)])


class _Reader:
    """Builds plain values of JSON's types from the parser's events, and remembers where they stand."""

    def __init__(self, text: str, places: _Places) -> None:
        yaml = YAML(typ="safe", pure=True)
        self._places, self._count = places, 0
        self._events: Iterator[Event] = iter(yaml.parse(text))
        self._resolver, self._constructor = yaml.resolver, yaml.constructor

    def document(self) -> Any:
        """The one document of the stream."""
        self._next()
        start = self._next()
        if isinstance(start, StreamEndEvent):
            raise _Stop(start.start_mark, (), "This is empty.")
        value = self._value(self._next(), ())
        self._next()
        after = self._next()
        if isinstance(after, DocumentStartEvent):
            raise _Stop(after.start_mark, (), "A second document begins here.")
        return value

    def _next(self) -> Event:
        self._count += 1
        event = next(self._events)
        if self._count > _MAX_EVENTS:
            raise _Stop(event.start_mark, (), "This has too many parts to be an agent.")
        return event

    def _value(self, event: Any, path: Path) -> Any:
        self._places[path] = (event.start_mark.line, event.start_mark.column)
        if isinstance(event, AliasEvent):
            raise _Stop(event.start_mark, path, "Aliases are not allowed here; write the value out.")
        if event.tag is not None and not (isinstance(event, ScalarEvent) and str(event.tag) == "!"):
            raise _Stop(event.start_mark, path, f"Tags such as {event.tag} are not allowed here.")
        if len(path) > _MAX_DEPTH:
            raise _Stop(event.start_mark, path, "This is nested too deeply.")
        if isinstance(event, MappingStartEvent):
            return self._mapping(path)
        if isinstance(event, SequenceStartEvent):
            return self._sequence(path)
        return self._scalar(event, path)

    def _mapping(self, path: Path) -> dict[str, Any]:
        mapping: dict[str, Any] = {}
        while not isinstance(event := self._next(), MappingEndEvent):
            key = self._value(event, path)
            if not isinstance(key, str):
                raise _Stop(event.start_mark, path, "A key must be a text.")
            if key in mapping:
                raise _Stop(event.start_mark, (*path, key), f"The key {key!r} stands here twice.")
            self._places.keys_at[(*path, key)] = (event.start_mark.line, event.start_mark.column)
            mapping[key] = self._value(self._next(), (*path, key))
        return mapping

    def _sequence(self, path: Path) -> list[Any]:
        sequence: list[Any] = []
        while not isinstance(event := self._next(), SequenceEndEvent):
            sequence.append(self._value(event, (*path, len(sequence))))
        return sequence

    def _scalar(self, event: Any, path: Path) -> Any:
        text: str = event.value
        if "\0" in text or not _encodable(text):
            raise _Stop(event.start_mark, path, "This text holds a character that cannot be stored.")
        tag = self._resolver.resolve(ScalarNode, text, event.implicit)
        kind = str(tag).rpartition(":")[2]
        if kind not in ("int", "float", "bool", "null"):
            return text
        value = self._constructor.construct_object(ScalarNode(tag, text, event.start_mark, event.end_mark))
        too_big = isinstance(value, int) and abs(value) >= 2**63
        if too_big or (isinstance(value, float) and not math.isfinite(value)):
            raise _Stop(event.start_mark, path, "This number cannot be used.")
        return value


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


# Saying what is wrong -------------------------------------------------------------------------------------------------


def _located(error: ValidationError, data: Any, places: _Places) -> list[YamlError]:
    found = []
    for one in error.errors(include_url=False, include_input=False):
        path = _path_of(one["loc"], data)
        if _is_other_branch(one["loc"], data):
            continue
        if one["type"] == "extra_forbidden":
            key = str(one["loc"][-1])
            known = _known_keys(path[:-1])
            found.append(
                _error(path, f"There is no key {key!r} here.{_meant(key, known)}", places, at_key=True)
            )
        elif one["type"] == "missing":
            found.append(_error(path, f"The key {one['loc'][-1]!r} is missing here.", places))
        else:
            found.append(_error(path, _sentence(one["msg"]), places))
    return found


def _path_of(loc: tuple[int | str, ...], data: Any) -> Path:
    """Pydantic's location without the names of union members, as far as it exists in the data."""
    path: list[str | int] = []
    for part in loc:
        inside = isinstance(data, dict) and part in data
        if inside or (isinstance(data, list) and isinstance(part, int) and part < len(data)):
            path.append(part)
            data = data[part]
    return tuple(path)


def _is_other_branch(loc: tuple[int | str, ...], data: Any) -> bool:
    """A permission is a word or a mapping: of the two complaints only the one about what was written is told."""
    if len(loc) < 4 or loc[1] != "permissions":
        return False
    return isinstance(data["agent"]["permissions"][loc[2]], dict) == (loc[3] != "ActionPermission")


def _known_keys(path: Path) -> list[str]:
    schema = _Manifest.model_json_schema()
    part = schema
    for step in path:
        part = part.get("properties", {}).get(step, {}) if isinstance(step, str) else part.get("items", {})
        for option in part.get("anyOf", [part]):
            if "$ref" in option:
                part = schema["$defs"][option["$ref"].rpartition("/")[2]]
    return list(part.get("properties", {}))


def _meant(given: str, known: Any) -> str:
    close = difflib.get_close_matches(given, known, 1)
    return f" Did you mean {close[0]!r}?" if close else ""


def _error(path: Path, message: str, places: _Places, *, at_key: bool = False) -> YamlError:
    known = path
    while known not in places and known:
        known = known[:-1]
    line, column = (places.keys_at.get(known) if at_key else None) or places.get(known, (0, 0))
    return YamlError(line=line + 1, column=column + 1, loc=_dotted(path), message=message)


def _dotted(path: Path) -> str:
    return ".".join(str(part) for part in path)


def _sentence(text: str) -> str:
    text = " ".join(text.split())
    return text[:1].upper() + text[1:].rstrip(".") + "."


# Writing --------------------------------------------------------------------------------------------------------------

_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_NOT_PLAIN = frozenset({"true", "false", "null", "yes", "no", "on", "off", "y", "n"})
# What YAML lets stand in a block of text and every reader gives back as it is.
_LITERAL = re.compile(
    r"[\n\t\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010fffd]*"
)
_ESCAPED = re.compile(
    r'["\\]|[^\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010fffd]'
)
_SHORT_KEY = 100


def write(config: AgentConfig) -> str:
    """The configuration as YAML: what differs from the defaults, in the order of the class."""
    return "".join(_mapping_lines({"agent": config.canonical()}, 0))


def _mapping_lines(mapping: dict[str, Any], indent: int) -> Iterator[str]:
    for key, value in mapping.items():
        name = _text(key)
        long = len(name) > _SHORT_KEY
        yield f"{' ' * indent}{'? ' if long else ''}{name}"
        yield f"\n{' ' * indent}:" if long else ":"
        yield from _value_lines(value, indent)


def _value_lines(value: Any, indent: int) -> Iterator[str]:
    """What follows a key, from the character after its colon."""
    match value:
        case dict() if value:
            yield "\n"
            yield from _mapping_lines(value, indent + 2)
        case list() if value:
            yield "\n"
            for item in value:
                yield f"{' ' * (indent + 2)}- "
                yield from _item_lines(item, indent + 4)
        case str() if "\n" in value and _stands_in_block(value):
            yield from _block_lines(value, indent + 2)
        case _:
            yield f" {_scalar_text(value)}\n"


def _item_lines(item: Any, indent: int) -> Iterator[str]:
    """What follows a list's dash: a mapping begins on its line."""
    if isinstance(item, dict) and item:
        first = True
        for line in _mapping_lines(item, indent):
            yield line.removeprefix(" " * indent) if first else line
            first = False
    else:
        yield f"{_scalar_text(item)}\n"


def _stands_in_block(text: str) -> bool:
    """Whether a literal block says exactly this: no odd characters, no lines of blanks, no tab or blank that could be indentation."""
    if _LITERAL.fullmatch(text) is None or text.startswith(("\n", " ", "\t")) or not text.strip("\n"):
        return False
    return all(line.strip() or not line for line in text.split("\n"))


def _block_lines(text: str, indent: int) -> Iterator[str]:
    body = text.rstrip("\n")
    ends = len(text) - len(body)
    yield f" |{'-' if ends == 0 else '+' if ends > 1 else ''}\n"
    for line in body.split("\n"):
        yield f"{' ' * indent}{line}\n" if line else "\n"
    yield "\n" * (ends - 1)


def _scalar_text(value: Any) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case None:
            return "null"
        case int() | float():
            return repr(value)
        case str():
            return _text(value)
        case dict():
            return "{}"
        case _:
            return "[]"


def _text(text: str) -> str:
    if _PLAIN.fullmatch(text) and text.lower() not in _NOT_PLAIN and len(text) <= _SHORT_KEY:
        return text
    return f'"{_ESCAPED.sub(_escape, text)}"'


def _escape(match: re.Match[str]) -> str:
    character = match.group()
    short = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r"}.get(character)
    return short or (f"\\u{ord(character):04x}" if ord(character) < 0x10000 else f"\\U{ord(character):08x}")
