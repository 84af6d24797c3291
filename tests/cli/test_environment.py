"""What is generated is what its source says."""

from backend.cli.environment import ROOT, example, openapi_text
from backend.kit.settings import Settings


def test_env_example_is_as_the_settings_are() -> None:
    assert (ROOT / ".env.example").read_text() == example(), "run `make generate`"


def test_env_example_sets_nothing_and_names_everything() -> None:
    lines = example().splitlines()
    assert all(line.startswith("#") or not line for line in lines)
    assert all(any(line.startswith(f"#{name.upper()}=") for line in lines) for name in Settings.model_fields)


def test_the_openapi_file_is_as_the_api_is() -> None:
    assert (ROOT / "frontend" / "openapi.json").read_text() == openapi_text(), "run `make generate`"
