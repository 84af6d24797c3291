"""One command: it starts everything, survives everything, and stops everything in order."""

import contextlib
import json
import os
import re
import socket
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest

from backend.embedded import process
from tests.conftest import Servers
from tests.product import Product, belonging, end


def config(address: str) -> dict[str, object]:
    base = address.partition("/setup")[0]
    with urllib.request.urlopen(f"{base}/api/config", timeout=20) as answer:
        found: dict[str, object] = json.load(answer)
        return found


def answered(address: str) -> dict[str, object]:
    """`config`, as soon as every part works again."""
    while True:
        with contextlib.suppress(urllib.error.HTTPError):
            return config(address)


def create_owner(product: Product) -> None:
    made = product.vibe("owner", "create", "--email", "ann@example.org", "--name", "Ann", VIBE_OWNER_PASSWORD="correct horse battery")
    assert made.returncode == 0, made.stderr


def test_it_prints_one_address_and_stops_everything_in_order(product: Product) -> None:
    address = product.start()
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/setup\?token=[\w-]{40,}", address)
    assert config(address)["setup_required"] is True
    assert len([line for line in product.lines if "http://" in line]) == 1
    assert product.stop() == 0
    stopped = [line.removeprefix("stopping ") for line in product.lines if line.startswith("stopping ")]
    assert stopped == ["api", "worker", "valkey", "postgres"]
    assert not belonging(product.path)


def test_a_second_start_on_the_same_data_is_refused_by_name(product: Product) -> None:
    address = product.start()
    assert product.child is not None
    said = product.refused()
    assert f"process {product.child.pid}" in said and address.partition("/setup")[0] in said
    assert config(address)


def test_after_a_kill_of_everything_the_next_start_has_all_that_was_committed(product: Product) -> None:
    product.start()
    create_owner(product)
    product.kill_everything()
    address = product.start()
    assert "/setup" not in address, "the owner was created before the kill"
    assert config(address)["setup_required"] is False
    assert product.stop() == 0


def test_what_a_killed_supervisor_leaves_behind_stops_no_start(product: Product) -> None:
    product.start()
    assert product.child is not None and product.child.stdout is not None
    left = psutil.Process(product.child.pid).children()
    product.child.kill()
    product.child.wait()
    product.child.stdout.close()
    address = product.start()
    assert config(address)
    psutil.wait_procs(left, timeout=20)
    assert not [one for one in left if one.is_running()]


def test_a_taken_port_is_replaced_by_the_next_free_one_which_it_says(product: Product) -> None:
    usual = int(product.environment["VIBE_PORT"])
    with socket.create_server(("127.0.0.1", usual)):
        address = product.start()
    assert urlsplit(address).port != usual
    assert any(f"port {usual} is in use" in line for line in product.lines)


def test_a_taken_port_that_was_asked_for_is_an_error(product: Product) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refused = product.vibe("up", "--port", str(port))
    assert refused.returncode == 1 and f"Port {port}" in refused.stderr and "--port" in refused.stderr


def test_other_machines_are_let_in_only_when_there_is_an_owner(product: Product) -> None:
    refused = product.vibe("up", "--host", "0.0.0.0", "--port", "0")
    assert refused.returncode == 1 and "owner" in refused.stderr
    assert not belonging(product.path)


@pytest.mark.parametrize("name", ["api", "worker", "postgres", "valkey-server"])
def test_a_killed_process_is_started_again(product: Product, name: str) -> None:
    address = product.start()
    before = product.processes(name)
    end(before)
    while not set(product.processes(name)) - set(before):
        assert product.child is not None and product.child.poll() is None
    assert answered(address)["setup_required"] is True


def test_a_connection_that_comes_while_the_api_is_down_waits_for_it(product: Product) -> None:
    address = product.start()
    with ThreadPoolExecutor(4) as pool:
        end(product.processes("api"))
        answers = list(pool.map(config, [address] * 4))
    assert all(answer["setup_required"] is True for answer in answers)


def test_given_servers_are_used_and_none_is_embedded(product: Product, servers: Servers, clean: None) -> None:
    product.environment |= {"DATABASE_URL": servers.admin_dsn, "REDIS_URL": servers.redis_dsn}
    address = product.start()
    assert config(address)["setup_required"] is True
    assert not product.processes("postgres") and not product.processes("valkey-server")
    assert product.stop() == 0
    # The test servers' role has its password from the tests' own key again.
    restored = product.vibe("migrate", VIBE_SECRET_KEY="a secret key for tests only")
    assert restored.returncode == 0, restored.stderr


def test_several_api_processes_share_the_one_address(product: Product) -> None:
    product.environment["VIBE_APIS"] = "2"
    address = product.start()
    first, second = product.processes("api")
    end([first])
    assert config(address)["setup_required"] is True, "the other one answers"
    assert second.is_running()


def test_a_process_that_cannot_stay_up_ends_the_start_with_its_last_words(product: Product) -> None:
    product.environment["VIBE_PUBLIC_URL"] = "http://["
    said = product.refused()
    assert "does not stay up" in said or "VIBE_PUBLIC_URL" in said.upper()
    assert not belonging(product.path)


def test_data_of_others_stay_closed_to_everybody_else(product: Product) -> None:
    product.start()
    modes = {path.name: path.stat().st_mode & 0o777 for path in product.path.iterdir() if path.is_dir()}
    assert {modes[name] for name in ("postgres", "valkey", "service", "logs")} == {0o700}
    uids = {path.name: path.stat().st_uid for path in product.path.iterdir()}
    if os.geteuid() == 0:
        assert len({uids["postgres"], uids["valkey"], uids["service"]}) == 3
    assert Path(product.path, "service", "secret.key").stat().st_mode & 0o077 == 0


def test_a_worker_of_an_earlier_start_does_not_hold_the_port(product: Product) -> None:
    port = process.free_port()
    product.environment["VIBE_PORT"] = str(port)
    assert urlsplit(product.start()).port == port
    product.kill_everything()
    assert urlsplit(product.start()).port == port
