from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.agent.inference.providers.plain_english import actions


def understood(text: str) -> list[tuple[str, dict[str, Any]]]:
    return [(action.tool, action.arguments) for action in actions(text)]


def run(command: str) -> tuple[str, dict[str, Any]]:
    return "shell", {"command": command}


def write(path: str, content: str) -> tuple[str, dict[str, Any]]:
    return "write_file", {"path": path, "content": content}


def read(path: str) -> tuple[str, dict[str, Any]]:
    return "read_file", {"path": path}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("run `ls -la`", [run("ls -la")]),
        ("Run: echo hi && date", [run("echo hi && date")]),
        ("Please run ls -la and then read notes.txt.", [run("ls -la"), read("notes.txt")]),
        ("Run the command 'uname -a' and tell me the result", [run("uname -a")]),
        ("run python3 --version.", [run("python3 --version")]),
        ("run echo hello > out.txt; then read out.txt", [run("echo hello > out.txt"), read("out.txt")]),
        ("ls -la", [run("ls -la")]),
        ("```sh\necho 1\necho 2\n```", [run("echo 1\necho 2")]),
        ("Run this:\n```console\n$ echo 1\n```", [run("echo 1")]),
        ("run this:\n```python\nprint(1)\n```", [run("python3 - <<'END_OF_PROGRAM'\nprint(1)\nEND_OF_PROGRAM")]),
        ("write `hello there` to notes.txt", [write("notes.txt", "hello there")]),
        ('Create a file called notes.txt with the text "buy milk", then read it', [write("notes.txt", "buy milk"), read("notes.txt")]),
        ("make a file todo.md containing milk and eggs, then run cat todo.md", [write("todo.md", "milk and eggs"), run("cat todo.md")]),
        ("create hello.py with\n```python\nprint('hi')\n```\nand run `python3 hello.py`", [write("hello.py", "print('hi')\n"), run("python3 hello.py")]),
        ("Please write a file greeting.txt that says hello world", [write("greeting.txt", "hello world")]),
        ("create an empty file x.txt", [write("x.txt", "")]),
        ('Save "x" to `a b.txt` and show it back', [write("a b.txt", "x"), read("a b.txt")]),
        ("read a.txt, then read b.txt and c.txt.", [read("a.txt"), read("b.txt"), read("c.txt")]),
        ("What is in notes.txt?", [read("notes.txt")]),
        ("show me the file src/app.py", [read("src/app.py")]),
        ("list files", [("list_files", {})]),
        ("What files are there?", [("list_files", {})]),
        ("list the files in src/", [("list_files", {"path": "src/"})]),
        ('search for "TODO" in src/', [("search_files", {"pattern": "TODO", "path": "src/"})]),
        ("replace `a` with `b` in notes.txt", [("edit_file", {"path": "notes.txt", "old": "a", "new": "b"})]),
        ("delete old.txt", [("delete_file", {"path": "old.txt"})]),
        ("1. Write `a` to a.txt\n2. Run `cat a.txt`\n3. List the files", [write("a.txt", "a"), run("cat a.txt"), ("list_files", {})]),
    ],
)  # fmt: skip
def test_what_people_ask_for(text: str, expected: list[tuple[str, dict[str, Any]]]) -> None:
    assert understood(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "Hello, who are you?",
        "Can you run things for me?",
        "Write a poem about the sea",
        "Use `run` wisely",
        "Find out the truth",
        "Cat and dog are animals",
        "Show me e.g. something",
        "I like notes.txt and pears",
        "```python\nprint('only shown')\n```",
        "",
    ],
)
def test_what_is_no_request(text: str) -> None:
    assert understood(text) == []


@given(st.text(alphabet="run write`\"'\n\x00.,/ab*?()[]\\ creatolis", max_size=300))
def test_no_message_upsets_it(text: str) -> None:
    actions(text)
