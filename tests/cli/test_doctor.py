"""What `vibe doctor` finds, and what it says to do about it."""

import json

from backend.embedded.directory import DataDirectory
from backend.embedded.process import free_port
from tests.conftest import Servers
from tests.product import Product


def examined(product: Product, **environment: str) -> tuple[int, dict[str, dict[str, str]]]:
    done = product.vibe("doctor", "--json", **environment)
    return done.returncode, {one["part"]: one for one in json.loads(done.stdout)}


def test_nothing_is_broken_on_a_fresh_machine(directory: DataDirectory) -> None:
    code, found = examined(Product(directory.path))
    assert code == 0
    assert found["database"]["state"] == found["valkey"]["state"] == found["disk"]["state"] == found["python"]["state"] == "ok"
    assert all(one["fix"] for one in found.values() if one["state"] != "ok")


def test_given_servers_are_asked(directory: DataDirectory, servers: Servers) -> None:
    code, found = examined(Product(directory.path), DATABASE_URL=servers.admin_dsn, REDIS_URL=servers.redis_dsn)
    assert code == 0
    assert found["database"]["detail"].startswith("Postgres 1") and found["valkey"]["detail"].startswith("valkey ")


def test_servers_that_do_not_answer_are_broken_and_named(directory: DataDirectory) -> None:
    nowhere = f"127.0.0.1:{free_port()}"
    code, found = examined(Product(directory.path), DATABASE_URL=f"postgresql://a:b@{nowhere}/c", REDIS_URL=f"redis://{nowhere}")
    assert code == 1
    assert found["database"]["state"] == found["valkey"]["state"] == "broken"
    assert "DATABASE_URL" in found["database"]["fix"] and "REDIS_URL" in found["valkey"]["fix"]


def test_a_full_disk_and_tools_that_are_off_say_which_setting_it_is(directory: DataDirectory) -> None:
    code, found = examined(Product(directory.path), VIBE_MIN_FREE_MB="999999999", VIBE_SANDBOX="off")
    assert code == 1 and found["disk"]["state"] == "broken"
    assert found["sandbox"]["state"] == "off" and "VIBE_SANDBOX" in found["sandbox"]["fix"]


def test_supabase_without_a_database_url_is_told_where_its_data_lie(directory: DataDirectory) -> None:
    _, found = examined(Product(directory.path), SUPABASE_URL="https://project.supabase.co")
    assert "embedded Postgres" in found["supabase"]["detail"] and "DATABASE_URL" in found["supabase"]["fix"]
