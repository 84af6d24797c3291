"""`vibe agents`: the same agents as in the web pages."""

import json
from pathlib import Path

from ruamel.yaml import YAML

from tests.product import Product


def test_agents_are_listed_taken_out_brought_in_and_deleted(product: Product, tmp_path: Path) -> None:
    product.start()
    made = product.vibe("owner", "create", "--email", "a@example.org", "--name", "Ann", VIBE_OWNER_PASSWORD="correct horse battery")
    assert made.returncode == 0, made.stderr
    file = tmp_path / "agent.yaml"
    file.write_text("agent:\n  name: Reader & Writer\n  system_prompt: You read.\n")
    brought = product.vibe("agents", "import", str(file), "--json")
    assert brought.returncode == 0, brought.stderr
    agent_id = json.loads(brought.stdout)["agent_id"]
    assert [agent["agent_id"] for agent in json.loads(product.vibe("agents", "list", "--json").stdout)] == [agent_id]
    table = product.vibe("agents", "list").stdout.splitlines()
    assert table[0].split() == ["id", "name", "version", "changed"]
    assert "Reader & Writer" in table[1]
    by_name, by_id = (product.vibe("agents", "export", which).stdout for which in ("Reader & Writer", agent_id))
    assert by_name == by_id
    assert YAML(typ="safe").load(by_name)["agent"]["system_prompt"] == "You read."
    assert json.loads(product.vibe("agents", "show", agent_id).stdout)["name"] == "Reader & Writer"
    refused = product.vibe("agents", "delete", agent_id)
    assert refused.returncode == 2 and "--yes" in refused.stderr
    assert product.vibe("agents", "delete", agent_id, "--yes").returncode == 0
    gone = product.vibe("agents", "export", agent_id)
    assert gone.returncode == 1 and gone.stderr.startswith("vibe: ")
    assert json.loads(product.vibe("agents", "list", "--json").stdout) == []


def test_a_bad_file_is_refused_with_the_place(product: Product, tmp_path: Path) -> None:
    product.start()
    product.vibe("owner", "create", "--email", "a@example.org", "--name", "Ann", VIBE_OWNER_PASSWORD="correct horse battery")
    file = tmp_path / "agent.yaml"
    file.write_text("agent:\n  name: A\n  colour: red\n")
    refused = product.vibe("agents", "import", str(file))
    assert refused.returncode == 1
    assert "colour" in refused.stderr and "Line 3" in refused.stderr
