"""May an action do this? Rules on exact arguments, checked outside the model; the answer is allow, ask or deny."""

import fnmatch
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

import orjson

from backend.agent.config import ActionPermission, AgentConfig, Permission
from backend.agent.schemas import CATALOGUE

# What joins, redirects or nests commands in a shell. An allow rule's wildcard does not reach over them: `git *` allows no `git log; curl …`.
_JOINS = frozenset(";|&<>()`$\n\\")
_COMMANDS = frozenset({"command"})  # arguments that a shell reads
_TOOL_OF = {action.name: tool.name for tool in CATALOGUE for action in tool.actions}


def decide(config: AgentConfig, rules: Sequence[Mapping[str, Any]], action: str, arguments: Mapping[str, Any], *, default: Permission) -> Permission:
    """What a person decided for this act: a configured `deny` first, then "always" answers, then the agent's rules, then the default."""
    configured = _configured(config, action, arguments, default)
    if configured == "deny":
        return "deny"
    for rule in rules:
        if rule["action"] == action and rule["pattern"] == arguments:
            decision: Permission = rule["decision"]
            return decision
    return configured


def _configured(config: AgentConfig, action: str, arguments: Mapping[str, Any], default: Permission) -> Permission:
    permission = config.permissions.get(action, config.permissions.get(_TOOL_OF.get(action, ""), default))
    if not isinstance(permission, ActionPermission):
        return permission
    for rule in permission.rules:
        if all(_matches(name, _written(arguments.get(name, "")), pattern, rule.decision) for name, pattern in rule.when.items()):
            return rule.decision
    return permission.default


def _matches(name: str, value: str, pattern: str, decision: Permission) -> bool:
    if decision == "allow" and name in _COMMANDS and not _JOINS.intersection(value) <= _JOINS.intersection(pattern):
        return False
    return fnmatch.fnmatchcase(value, pattern)


def _written(value: Any) -> str:
    """An argument as a rule is written against it: text as it is, anything else as JSON."""
    return value if isinstance(value, str) else orjson.dumps(value, default=str).decode()


def always_pattern(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """What an "always" answer covers: these arguments exactly, and no others."""
    return dict(arguments)


def act_hash(thread_id: UUID, action: str, arguments: Mapping[str, Any]) -> str:
    """SHA-256 of the exact act: one changed byte is another act."""
    act = {"thread": str(thread_id), "action": action, "arguments": arguments}
    return hashlib.sha256(orjson.dumps(act, option=orjson.OPT_SORT_KEYS, default=str)).hexdigest()
