"""The OpenAPI document tells the truth: whatever one sends to a route, its answer is one that the document describes, and never a failure of ours."""

import asyncio
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode
from schemathesis.core.result import Ok
from schemathesis.openapi import from_dict
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from backend.api import create_app
from backend.kit.settings import Settings
from tests.conftest import Servers
from tests.people import Person, add_person, signed_in
from tests.product import Started
from tests.test_tenants import make_everything

# `run_events` does not end while its run waits; `log_out` ends the session that the others need; `test_provider` knocks at addresses.
LEFT_OUT = {"run_events", "log_out", "test_provider"}
# 503 and 507 say what is not set up or not there, with the reason; any other 5xx is a failure of ours.
HONEST = {502, 503, 507}
CASES = 12

DOCUMENT = create_app(Settings(_env_file=None)).openapi()
SCHEMA = from_dict(DOCUMENT)
OPERATIONS = {
    operation.definition.raw["operationId"]: operation
    for operation in (result.ok() for result in SCHEMA.get_all_operations() if isinstance(result, Ok))
    if operation.definition.raw["operationId"] not in LEFT_OUT
}


@schemathesis.deserializer("text/yaml")
def as_text(_: Any, response: Any) -> Any:
    """A file of YAML is a text to our callers, not what stands in it."""
    return response.text


async def test_the_document_is_valid() -> None:
    SCHEMA.validate()


@pytest.mark.parametrize("name", sorted(OPERATIONS))
async def test_every_answer_is_one_that_the_document_describes(
    name: str, server: Started, servers: Servers
) -> None:
    operation = OPERATIONS[name]
    ada: Person = await add_person(servers.admin_dsn, "ada@example.org")
    async with signed_in(server.url, ada) as client:
        hers = await make_everything(client, servers, ada)
        cookies = dict(client.cookies)
    headers = {"Sec-Fetch-Site": "same-origin"}
    modes = st.sampled_from([GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
    cases = modes.flatmap(lambda mode: operation.as_strategy(generation_mode=mode))

    @settings(max_examples=CASES, deadline=None, database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck), derandomize=True)
    @given(case=cases, known=st.booleans())
    def check(case: "Case[Any]", known: bool) -> None:
        if known:
            case.path_parameters = {key: hers.get(key, value) for key, value in (case.path_parameters or {}).items()}
        response = case.call(base_url=server.url, headers=headers, cookies=cookies, timeout=20)
        assert response.status_code < 500 or response.status_code in HONEST, response.text
        case.validate_response(response, checks=[status_code_conformance, content_type_conformance, response_schema_conformance])

    await asyncio.to_thread(check)
