"""What the import contracts cannot say of the house."""

import ast
import importlib
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path

import backend
from backend.kit import tasks

ROOT = Path(backend.__file__).parents[1]
SOURCES = sorted((ROOT / "backend").rglob("*.py"))
PRIVATE = {"repository", "models"}
UNFINISHED = re.compile(r"\b(TODO|FIXME|XXX|HACK|NotImplemented(Error)?)\b")


def _module(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def _imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _domain(module: str) -> str:
    """`backend.agent.runs.service` belongs to `backend.agent`: its rooms share their tables."""
    return ".".join(module.split(".")[:2])


def test_nobody_outside_a_domain_imports_its_repository() -> None:
    broken = [
        f"{_module(path)} imports {name}"
        for path in SOURCES
        for name in _imports(path)
        if name.startswith("backend.") and name.split(".")[-1] in PRIVATE and _domain(name) != _domain(_module(path))
    ]
    assert broken == []


def test_every_task_that_is_asked_for_is_declared() -> None:
    for found in pkgutil.walk_packages(backend.__path__, "backend."):
        if found.name.split(".")[-1] in {"tasks", "service", "executor"}:
            importlib.import_module(found.name)
    asked = set()
    for path in SOURCES:
        module = importlib.import_module(_module(path)) if "enqueue(" in path.read_text() and path.name != "__main__.py" else None
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "enqueue" and len(node.args) > 1:
                name = node.args[1]
                asked.add(name.value if isinstance(name, ast.Constant) else eval(ast.unparse(name), vars(module)))
    assert asked
    assert asked - set(tasks.declared) == set()


def test_nothing_is_left_unfinished() -> None:
    files = [*SOURCES, *(ROOT / "frontend" / "src").rglob("*.ts*"), *(ROOT / "migrations").glob("*.sql")]
    found = [f"{path.relative_to(ROOT)}: {line.strip()}" for path in files for line in path.read_text().splitlines() if UNFINISHED.search(line)]
    assert found == []


def test_type_checking_is_no_back_door() -> None:
    found = [str(path.relative_to(ROOT)) for path in SOURCES if "TYPE_CHECKING" in path.read_text()]
    assert found == []
