"""An agent as YAML: the overview's example, mistakes with their place, and writing that changes no byte."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.agent import manifest
from backend.agent.config import (
    ActionPermission,
    AgentConfig,
    ArgumentRule,
    KnowledgeBase,
    Limits,
    McpServer,
    Memory,
    ModelChoice,
    Routing,
    Trigger,
    Wallet,
)
from backend.agent.schemas import ACTIONS, TOOL_NAMES

OVERVIEW = """\
agent:
  name: "Research Agent"
  system_prompt: |
    You are a research analyst...
  model:
    provider: "openai"
    name: "gpt-4o"
    temperature: 0.7
  tools:
    - web_search
    - browser
    - file_operations
    - code_execution
  knowledge_base:
    enabled: true
    sources:
      - "./docs/research.pdf"
  memory:
    enabled: true
    auto_extract: true
  triggers:
    - type: cron
      schedule: "0 9 * * *"
      action: "Generate daily report"
"""


def mistakes(yaml: str) -> list[tuple[int, int, str]]:
    with pytest.raises(manifest.InvalidYaml) as caught:
        manifest.read(yaml)
    return [(error.line, error.column, error.message) for error in caught.value.errors]


def test_the_overviews_example_is_read_unchanged() -> None:
    config = manifest.read(OVERVIEW)
    assert config.name == "Research Agent"
    assert config.system_prompt == "You are a research analyst...\n"
    assert config.model == ModelChoice(provider="openai", name="gpt-4o", temperature=0.7)
    assert config.tools == ("web_search", "browser", "file_operations", "code_execution")
    assert config.knowledge_base == KnowledgeBase(enabled=True, sources=("./docs/research.pdf",))
    assert config.memory == Memory(enabled=True, auto_extract=True)
    assert config.triggers == (Trigger(type="cron", schedule="0 9 * * *", action="Generate daily report"),)


def test_the_overviews_example_is_written_as_the_overview_writes_it() -> None:
    assert manifest.write(manifest.read(OVERVIEW)) == OVERVIEW.replace('"openai"', "openai")


def test_module_names_of_tools_become_the_overviews_names() -> None:
    yaml = "agent:\n  name: x\n  tools: [sb_shell_tool, code_execution, sb_files_tool]\n  permissions: {sb_shell_tool: ask}\n"
    config = manifest.read(yaml)
    assert config.tools == ("code_execution", "file_operations")
    assert config.permissions == {"code_execution": "ask"}


# Odd on purpose: what YAML gives a meaning, what it cannot hold as it is, and what other readers change.
ODD = st.sampled_from(
    [
        "yes",
        "null",
        "~",
        "1e3",
        "0x1F",
        "12:30:45",
        "2026-01-01",
        "- a",
        "a: b",
        "# c",
        "'",
        '"',
        "\\",
        "|",
        ">-",
        "{}",
        "[",
        "!x",
        "&a",
        "*a",
        "%TAG",
        "---",
        "...",
        "\t",
        " x",
        "x ",
        "\n",
        "\n\nx",
        "x\n\n\n",
        " \n x",
        "a\n \nb",
        "a\r\nb",
        "\x85",
        "\u2028",
        "\ufeff",
        "\x7f",
        "\x1b[0m",
        "é",
        "日本",
        "🜁",
        "\U000e0001",
        "a" * 2000,
        "k\n" * 40,
        "\ttab\nb",
        "a\n\tb",
        "true",
        "on",
        "=",
    ]
)
texts = st.one_of(
    ODD,
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
    st.lists(ODD).map("".join),
)
names = texts.map(lambda text: text.strip()[:255].strip()).filter(bool)
permissions = st.sampled_from(["allow", "ask", "deny"])
rules = st.builds(ArgumentRule, when=st.dictionaries(texts, texts, max_size=3), decision=permissions)
configs = st.builds(
    AgentConfig,
    name=names,
    system_prompt=texts,
    model=st.builds(
        ModelChoice,
        provider=texts.map(lambda text: text[:60]),
        name=texts.map(lambda text: text[:200]),
        temperature=st.none() | st.floats(0, 2),
        max_tokens=st.none() | st.integers(1, 1_000_000),
    ),
    tools=st.lists(st.sampled_from(sorted(TOOL_NAMES)), unique=True).map(tuple),
    knowledge_base=st.none()
    | st.builds(KnowledgeBase, enabled=st.booleans(), sources=st.lists(texts).map(tuple)),
    memory=st.none() | st.builds(Memory, enabled=st.booleans()),
    triggers=st.lists(
        st.builds(
            Trigger,
            type=st.sampled_from(["cron", "webhook", "event"]),
            schedule=st.none() | texts,
            action=texts,
        )
    ).map(tuple),
    routing=st.none() | st.builds(Routing, strategy=st.none() | st.just("balanced")),
    limits=st.builds(
        Limits, max_steps=st.integers(1, 1000), max_cost_micro_usd=st.none() | st.integers(0, 10**15)
    ),
    permissions=st.dictionaries(
        st.sampled_from(sorted(ACTIONS)),
        permissions
        | st.builds(ActionPermission, default=permissions, rules=st.lists(rules, max_size=2).map(tuple)),
    ),
    mcp=st.lists(
        st.builds(McpServer, name=names, url=texts, command=st.lists(texts).map(tuple)), max_size=2
    ).map(tuple),
    wallet=st.none() | st.builds(Wallet, enabled=st.booleans(), network=texts),
)


@given(configs)
def test_what_is_written_reads_back_as_the_same_agent_and_the_same_bytes(config: AgentConfig) -> None:
    written = manifest.write(config)
    read = manifest.read(written)
    assert read == config
    assert read.content_hash() == config.content_hash()
    assert manifest.write(read) == written


@pytest.mark.parametrize(
    ("yaml", "expected"),
    [
        ("", (1, 1, "This is empty.")),
        ("- a\n", (1, 1, "Input should be an object.")),
        ("agent:\n  system_prompt: x\n", (2, 3, "The key 'name' is missing here.")),
        ("agent:\n  name: x\n  tols: []\n", (3, 3, "There is no key 'tols' here. Did you mean 'tools'?")),
        ("agent:\n  name: x\nother: 1\n", (3, 1, "There is no key 'other' here.")),
        ("agent:\n  name: x\n  name: y\n", (3, 3, "The key 'name' stands here twice.")),
        ("agent:\n  name: 5\n", (2, 9, "Input should be a valid string.")),
        ("agent:\n  name: x\n  memory: {enabled: yes}\n", (3, 21, "Input should be a valid boolean.")),
        (
            "agent:\n  name: x\n  tools:\n    - web_serch\n",
            (4, 7, "There is no tool named 'web_serch'. Did you mean 'web_search'?"),
        ),
        (
            "agent:\n  name: x\n  permissions:\n    shel: deny\n",
            (4, 11, "There is no action or tool named 'shel'. Did you mean 'shell'?"),
        ),
        (
            "agent:\n  name: x\n  permissions: {shell: maybe}\n",
            (3, 24, "Input should be 'allow', 'ask' or 'deny'."),
        ),
        (
            "agent:\n  name: x\n  permissions:\n    shell:\n      default: never\n",
            (5, 16, "Input should be 'allow', 'ask' or 'deny'."),
        ),
        ("agent: &a\n  name: *a\n", (2, 9, "Aliases are not allowed here; write the value out.")),
        (
            "agent: !!python/object:os.system x\n",
            (1, 8, "Tags such as tag:yaml.org,2002:python/object:os.system are not allowed here."),
        ),
        ("agent:\n  name: x\n---\nagent: 1\n", (3, 1, "A second document begins here.")),
        ('agent:\n  name: "a\\0b"\n', (2, 9, "This text holds a character that cannot be stored.")),
        ('agent:\n  name: "\\ud800"\n', (2, 9, "This text holds a character that cannot be stored.")),
        ("agent:\n  name: x\n  system_prompt: a\x00b\n", (3, 19, "This character cannot stand in YAML.")),
        ("agent:\n  name: x\n  model: {temperature: .nan}\n", (3, 24, "This number cannot be used.")),
        ("agent: {? [a] : x}\n", (1, 11, "A key must be a text.")),
        ("[" * 50, (1, 14, "This is nested too deeply.")),
    ],
)
def test_a_mistake_is_told_with_its_line_and_column(yaml: str, expected: tuple[int, int, str]) -> None:
    assert expected in mistakes(yaml)


def test_syntax_errors_have_a_place_too() -> None:
    assert mistakes("agent:\n  name: [a\n")[0][:2] == (3, 1)
    assert mistakes("agent:\n\tname: x\n")[0][:2] == (2, 1)


def test_every_mistake_is_told_at_once() -> None:
    yaml = "agent:\n  name: 1\n  limits: {max_steps: 0}\n  nonsense: 1\n"
    assert [line for line, _, _ in mistakes(yaml)] == [2, 3, 4]


@pytest.mark.parametrize(
    "yaml",
    [
        "agent:\n  tools:\n" + "    - a\n" * 40_000,
        "[" * 390_000,
        "{" + "a: b," * 70_000,
        "agent:\n  name: x\n  system_prompt: " + "word " * 78_000,
        "#\n" * 190_000,
        "a: &a [x, x]\n"
        + "".join(f"{chr(98 + n)}: &{chr(98 + n)} [*{chr(97 + n)}, *{chr(97 + n)}]\n" for n in range(20)),
        "x" * 500_000,
    ],
)
def test_a_hostile_yaml_is_refused_quickly(yaml: str) -> None:
    began = time.process_time()
    assert mistakes(yaml)
    assert time.process_time() - began < 2


def test_the_schema_knows_every_tool_by_both_names() -> None:
    schema = manifest.json_schema()
    known = schema["$defs"]["AgentConfig"]["properties"]["tools"]["items"]["enum"]
    assert {"code_execution", "sb_shell_tool", "web_search", "web_search_tool"} <= set(known)
    assert schema["required"] == ["agent"]


def test_a_diff_shows_what_changed_and_nothing_else() -> None:
    old = AgentConfig(name="A", system_prompt="one\ntwo\nthree\n")
    new = old.model_copy(update={"system_prompt": "one\n2\nthree\n"})
    lines = manifest.diff(old, new, "version 1", "draft").split("\n")
    assert [line for line in lines if line[:1] in "+-"] == [
        "--- version 1",
        "+++ draft",
        "-    two",
        "+    2",
    ]
    assert manifest.diff(old, old, "a", "b") == ""
