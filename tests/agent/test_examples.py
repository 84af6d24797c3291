"""The agents in examples/ are read as they stand, and what the careful one may reach is what it says."""

from pathlib import Path

import pytest

from backend.agent import manifest
from backend.agent.tools.workspace import network_of
from backend.sandbox.protocol import Network

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.yaml"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_an_agent(path: Path) -> None:
    config = manifest.read(path.read_text())
    assert manifest.read(manifest.write(config)) == config


def test_the_overviews_example_is_one_of_them_and_all_of_it_is_kept() -> None:
    config = manifest.read((EXAMPLES[0].parent / "research-agent.yaml").read_text())
    assert config.model.full_name == "openai/gpt-4o"
    assert config.tools == ("web_search", "browser", "file_operations", "code_execution")
    assert config.knowledge_base and config.memory and config.triggers


@pytest.mark.parametrize(
    ("permissions", "network"),
    [
        ("{}", Network("off")),
        ("{network: allow}", Network("open")),
        ("{network: ask}", Network("off")),
        ("{network: {default: deny, rules: [{when: {host: pypi.org}, decision: allow}]}}", Network("allowlist", frozenset({"pypi.org"}))),
    ],
)
def test_the_network_of_a_sandbox_is_a_permission_of_its_agent(permissions: str, network: Network) -> None:
    config = manifest.read(f"agent:\n  name: x\n  permissions: {permissions}\n")
    assert network_of(config) == network
