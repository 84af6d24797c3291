"""What the demo model understands of plain English: commands to run, and files to write, read, list, search, change and delete.

No grammar, a handful of patterns: each looks for a verb and what belongs to it, in the order of the message. Text in backticks,
in quotes or in a fenced block is taken as it stands.
"""

import re
from collections.abc import Callable
from typing import Any

from msgspec import Struct


class Action(Struct, frozen=True):
    """One tool call, with what to call it in a sentence: "I will {will}." and "**{did}**"."""

    tool: str
    arguments: dict[str, Any]
    will: str
    did: str


class _Fence(Struct, frozen=True):
    language: str
    body: str


_FENCE = re.compile(r"^[ \t]*(`{3,})[ \t]*([\w+-]*)[^\n]*\n(.*?)^[ \t]*\1[ \t]*$", re.MULTILINE | re.DOTALL)
_SHELLS = ("sh", "bash", "shell", "console", "zsh")

# The pieces the patterns are made of. A fenced block stands in the text as `\x00<number>\x00`.
_HOLD = r"\s*:?\s*\x00(?P<fence>\d+)\x00"
_QUOTED = r"""(?:`(?P<tick>[^`\n]+)`|"(?P<quote>[^"\n]*)"|“(?P<curly>[^”\n]*)”|'(?P<single>[^'\n]*)')"""
_FILE = (
    r"""(?:`(?P<path>[^`\n]+)`|["'](?P<qpath>[^"'\n]+)["']"""
    r"""|(?P<bare>(?!e\.g|i\.e)(?:[\w.~-]*/)+[\w.-]*|(?!e\.g|i\.e)[\w-]*\.?[\w.-]*\.\w+|Makefile|Dockerfile|README|LICENSE))"""
)
_A_FILE = r"(?:(?:a|an|the|new|my|text|empty)\s+)*(?:file\s+)?(?:(?:called|named)\s+)?"
_WITH = r"\s*(?:,\s*)?(?:with|containing|that\s+(?:says|contains|holds)|saying|and\s+put|:)?\s*"
_CONTENT = r"(?:(?:the|this|these|its|as)\s+)*(?:following\s+)?(?:(?:content|contents|text|line|lines|words?|code|it)\b\s*:?\s*)?(?:in\s+it\s*)?"
_COMMANDS = [
    "ls",
    "cat",
    "echo",
    "pwd",
    "date",
    "uname",
    "whoami",
    "df",
    "du",
    "ps",
    "find",
    "grep",
    "head",
    "tail",
    "wc",
    "sleep",
    "env",
    "id",
    "git",
    "pip",
    "npm",
    "node",
    "curl",
    "mkdir",
    "touch",
    "cp",
    "mv",
    "rm",
    "chmod",
    "tar",
    "sh",
    "bash",
    "make",
    "seq",
    "sort",
    "uptime",
    "free",
    "which",
    "tree",
    "hostname",
    "true",
    "false",
    "exit",
    "printf",
    "sed",
    "awk",
    "python",
    "python3",
    "pytest",
    "cal",
    "test",
]
_NEXT = r"(?=\s*(?:[,;]?\s*(?:and\s+)?then\b|[,;]?\s+and\s+(?:run|read|show|list|write|create|delete|search|tell)\b|[,;]\s+(?:read|list|write|create)\b|\n|$))"
# A whole message that begins with one of these is a command; with "find", "make" or "test" it may well be a sentence.
_LONE = re.compile(
    r"(?:ls|pwd|date|uname|whoami|df|ps|id|env|uptime|hostname|tree|echo|python3|git|pip|npm)(?: +[-./$\"'\w][^\n]*)?"
)
_BARE_COMMAND = rf"(?P<command>(?:(?:{'|'.join(_COMMANDS)})\b|\.{{0,2}}/)[^\n]*?){_NEXT}"


def actions(message: str) -> list[Action]:
    """What a message asks for, in its order; empty when nothing of it is understood."""
    fences: list[_Fence] = []

    def hold(found: re.Match[str]) -> str:
        fences.append(_Fence(found[2].lower(), found[3]))
        return f"\x00{len(fences) - 1}\x00"

    text = _FENCE.sub(hold, message.replace("\r\n", "\n").replace("\x00", ""))
    if _LONE.fullmatch(text.strip()):
        text = f"run: {text.strip()}"
    found: list[Action] = []
    position = end = 0
    while position < len(text):
        matches = [(match, make) for pattern, make in _PATTERNS if (match := pattern.search(text, position))]
        if not matches:
            break
        # The first in the text; of those the first in the table.
        match, make = min(matches, key=lambda pair: pair[0].start())
        action = make(match, fences)
        if make is _again:
            action = _same_file(found)
        elif make is _more:
            action = (
                _read(match, fences)
                if found and found[-1].tool == "read_file" and match.start() == end
                else None
            )
        end = match.end()
        if action is not None:
            found.append(action)
        position = max(match.end(), position + 1)
    return found


def _same_file(found: list[Action]) -> Action | None:
    """Read the file that was spoken of last ("… then read it")."""
    path = next((action.arguments["path"] for action in reversed(found) if "path" in action.arguments), None)
    return _reading(path) if path else None


def _quoted(match: re.Match[str]) -> str | None:
    groups = match.groupdict()
    return next(
        (groups[name] for name in ("tick", "quote", "curly", "single") if groups.get(name) is not None), None
    )


def _path(match: re.Match[str]) -> str:
    groups = match.groupdict()
    return groups.get("path") or groups.get("qpath") or groups.get("bare") or ""


def _fence(match: re.Match[str], fences: list[_Fence]) -> _Fence | None:
    number = match.groupdict().get("fence")
    return None if number is None else fences[int(number)]


def _skip(match: re.Match[str], fences: list[_Fence]) -> None:
    """Text in backticks that belongs to no verb: verbs in it are not meant."""
    return None


def _run(match: re.Match[str], fences: list[_Fence]) -> Action | None:
    block = _fence(match, fences)
    if block is None:
        bare = match.groupdict().get("command")
        command = _quoted(match) or (re.sub(r"(?<=\w)[.!?]$", "", bare.strip()) if bare else "")
    elif block.language in ("python", "py", "python3"):
        command = f"python3 - <<'END_OF_PROGRAM'\n{block.body}END_OF_PROGRAM"
    else:
        command = re.sub(r"^\$ ", "", block.body.strip("\n"), flags=re.MULTILINE)
    if not command.strip():
        return None
    shown = command if "\n" not in command else command.split("\n", 1)[0] + " …"
    return Action("shell", {"command": command}, f"run `{shown}`", f"Ran `{shown}`")


def _block(match: re.Match[str], fences: list[_Fence]) -> Action | None:
    """A fenced block that nothing before it asked for is run when it is a shell's."""
    block = _fence(match, fences)
    return _run(match, fences) if block is not None and block.language in _SHELLS else None


def _write(match: re.Match[str], fences: list[_Fence]) -> Action | None:
    path, block = _path(match), _fence(match, fences)
    content = block.body if block is not None else _quoted(match)
    if content is None:
        content = (match.groupdict().get("rest") or "").strip()
    return Action("write_file", {"path": path, "content": content}, f"write `{path}`", f"Wrote `{path}`")


def _edit(match: re.Match[str], fences: list[_Fence]) -> Action:
    path, old, new = _path(match), match["old"], match["new"]
    return Action(
        "edit_file", {"path": path, "old": old, "new": new}, f"change `{path}`", f"Changed `{path}`"
    )


def _again(match: re.Match[str], fences: list[_Fence]) -> None:
    """A file that "it" stands for; `actions` knows which."""
    return None


def _more(match: re.Match[str], fences: list[_Fence]) -> None:
    """One more file to read ("read a.md and b.md"); `actions` knows whether one was read before."""
    return None


def _read(match: re.Match[str], fences: list[_Fence]) -> Action:
    return _reading(_path(match))


def _reading(path: str) -> Action:
    return Action("read_file", {"path": path}, f"read `{path}`", f"Read `{path}`")


def _delete(match: re.Match[str], fences: list[_Fence]) -> Action:
    path = _path(match)
    return Action("delete_file", {"path": path}, f"delete `{path}`", f"Deleted `{path}`")


def _list(match: re.Match[str], fences: list[_Fence]) -> Action:
    path = _path(match)
    arguments = {"path": path} if path else {}
    where = f" in `{path}`" if path else ""
    return Action("list_files", arguments, f"list the files{where}", f"Listed the files{where}")


def _search(match: re.Match[str], fences: list[_Fence]) -> Action:
    pattern, path = _quoted(match) or "", _path(match)
    arguments = {"pattern": pattern} | ({"path": path} if path else {})
    return Action("search_files", arguments, f"search for `{pattern}`", f"Searched for `{pattern}`")


_Make = Callable[[re.Match[str], list[_Fence]], Action | None]


def _pattern(source: str) -> re.Pattern[str]:
    return re.compile(source, re.IGNORECASE)


_RUN = r"\b(?:run|execute|call|type)\b"
_THE_COMMAND = r"\s*(?:(?:the|this|following|shell|command|script|program|python|code|it)\b\s*)*:?\s*"
_PATTERNS: tuple[tuple[re.Pattern[str], _Make], ...] = (
    (_pattern(rf"{_RUN}{_THE_COMMAND}(?:{_HOLD}|{_QUOTED})"), _run),
    (_pattern(rf"{_RUN}{_THE_COMMAND}{_BARE_COMMAND}"), _run),
    (_pattern(rf"{_RUN}\s*(?:the\s+command\s*)?:\s*(?P<command>[^\n\x00]+)"), _run),
    (
        _pattern(
            r"""\b(?:replace|change)\s+[`"'](?P<old>[^`"'\n]+)[`"']\s+(?:with|by|to|into)\s+[`"'](?P<new>[^`"'\n]*)[`"']\s+in\s+"""
            rf"(?:the\s+file\s+)?{_FILE}"
        ),
        _edit,
    ),
    (
        _pattern(
            rf"\b(?:write|save|put|store)\s+(?:the\s+)?(?:text\s+|words?\s+|line\s+)?{_QUOTED}\s+(?:in|into|to|as)\s+{_A_FILE}{_FILE}"
        ),
        _write,
    ),
    (
        _pattern(
            rf"\b(?:write|save|put|store)\s+(?:this|the\s+following|it)?\s*(?:in|into|to|as)\s+{_A_FILE}{_FILE}{_HOLD}"
        ),
        _write,
    ),
    (
        _pattern(
            rf"\b(?:write|create|make|add|save)\s+(?:to\s+)?{_A_FILE}{_FILE}{_WITH}{_CONTENT}(?:{_HOLD}|{_QUOTED})"
        ),
        _write,
    ),
    (
        _pattern(
            rf"\b(?:write|create|make|add|save)\s+{_A_FILE}{_FILE}\s*(?:with|containing|that\s+says|saying|:)\s*{_CONTENT}(?P<rest>[^\n\x00]+?){_NEXT}"
        ),
        _write,
    ),
    (_pattern(rf"\b(?:create|make)\s+{_A_FILE}{_FILE}"), _write),
    (
        _pattern(
            rf"\b(?:search|find|grep|look)\s+(?:(?:the|all|my|files|file|for|text|word)\s+)*{_QUOTED}(?:\s+in\s+(?:the\s+)?(?:folder\s+|directory\s+|files?\s+)?{_FILE})?"
        ),
        _search,
    ),
    (
        _pattern(
            rf"\b(?:list|show|see|what|which)\b[^.\n\x00`]{{0,30}}?\b(?:files|folder|directory|workspace)\b(?:\s+(?:in|of|under|inside)\s+(?:the\s+)?(?:folder\s+|directory\s+)?{_FILE})?"
        ),
        _list,
    ),
    (
        _pattern(
            rf"\b(?:read|show|open|display|print|view|cat)\s+(?:me\s+)?(?:what\s+is\s+in\s+)?(?:the\s+)?(?:contents?\s+of\s+)?{_A_FILE}{_FILE}"
        ),
        _read,
    ),
    (_pattern(rf"\bwhat(?:\s+is|'s|\s+does|\s+stands)\s+(?:in\s+)?(?:the\s+)?(?:file\s+)?{_FILE}"), _read),
    (_pattern(rf"(?<=[\w`\"'])\s*(?:,|\band\b)\s*(?:the\s+file\s+)?{_FILE}(?=\s*(?:[,.?!]|and\b|$))"), _more),
    (
        _pattern(
            r"\b(?:read|show|open|print)\s+(?:me\s+)?(?:it|that|the\s+file)(?:\s+back)?\b(?!\s+[\w`]+\.)"
        ),
        _again,
    ),
    (_pattern(rf"\b(?:delete|remove|erase)\s+{_A_FILE}{_FILE}"), _delete),
    (_pattern(r"\x00(?P<fence>\d+)\x00"), _block),
    (_pattern(r"`[^`\n]+`"), _skip),
)
