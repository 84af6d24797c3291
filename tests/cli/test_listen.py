"""Addresses: whose they are and how they are written."""

import socket

import pytest

from backend.cli.listen import PortTaken, bind, bind_near, is_loopback, url_of


@pytest.mark.parametrize(("host", "expected"), [("127.0.0.1", True), ("127.8.8.8", True), ("::1", True), ("localhost", True),
                                                ("0.0.0.0", False), ("::", False), ("10.0.0.1", False), ("example.org", False)])  # fmt: skip
def test_only_this_machine_reaches_a_loopback_address(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


def test_an_address_for_every_interface_is_shown_as_this_machine() -> None:
    with bind("0.0.0.0", 0) as bound:
        assert url_of(bound) == f"http://127.0.0.1:{bound.getsockname()[1]}"


def test_a_taken_port_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PortTaken, match=str(port)):
            bind("127.0.0.1", port)
        with bind_near("127.0.0.1", port) as near:
            assert port < near.getsockname()[1] < port + 100
