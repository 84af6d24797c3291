"""Whatever members do to each other, also at the same moment, an account has an owner."""

import asyncio
from collections.abc import Coroutine
from typing import Any, get_args
from uuid import UUID

import asyncpg
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from backend.accounts import members
from backend.accounts.schemas import Acceptance, NewInvitation, Role, Transfer
from backend.accounts.service import Caller
from backend.kit import redis
from backend.kit.db import Database
from backend.kit.ids import uuid7
from backend.kit.problems import Conflict, Forbidden, InvalidRequest, NotFound, Unauthorized
from backend.kit.seal import Sealer
from tests.conftest import Servers
from tests.people import PASSWORD, Person, add_person

REFUSED = (Forbidden, NotFound, Conflict, InvalidRequest, Unauthorized)
PEOPLE = 4
one_of_them = st.integers(0, PEOPLE - 1)
roles = st.sampled_from(get_args(Role))
acts = st.one_of(
    st.tuples(st.just("role"), one_of_them, one_of_them, roles),
    st.tuples(st.just("remove"), one_of_them, one_of_them, roles),
    st.tuples(st.just("leave"), one_of_them, one_of_them, roles),
    st.tuples(st.just("transfer"), one_of_them, one_of_them, roles),
    st.tuples(st.just("invite"), one_of_them, one_of_them, roles),
)


class Members(RuleBasedStateMachine):
    """Four people who also have an account of their own, two of them in one that is shared."""

    servers: Servers

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()

    def do(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.runner.run(work)

    @initialize()
    def begin(self) -> None:
        self.do(self._begin())

    async def _begin(self) -> None:
        self.database = await Database.connect(self.servers.dsn, size=4)
        self.redis = redis.connect(self.servers.redis_dsn)
        self.admin = await asyncpg.connect(self.servers.admin_dsn)
        self.people = [await add_person(self.servers.admin_dsn, f"{uuid7().hex}@example.org") for _ in range(PEOPLE)]
        self.account_id: UUID = uuid7()
        await self.admin.execute("INSERT INTO accounts (account_id, name) VALUES ($1, 'Shared')", self.account_id)
        for person in self.people[:2]:
            role = "owner" if person is self.people[0] else "editor"
            await self.admin.execute("INSERT INTO memberships VALUES ($1, $2, $3)", self.account_id, person.user_id, role)

    @rule(act=acts)
    def one_acts(self, act: tuple[str, int, int, Role]) -> None:
        self.do(self._act(*act))

    @rule(both=st.tuples(acts, acts))
    def two_act_at_once(self, both: tuple[tuple[str, int, int, Role], ...]) -> None:
        async def work() -> None:
            await asyncio.gather(*(self._act(*act) for act in both))

        self.do(work())

    async def _act(self, what: str, by: int, of: int, role: Role) -> None:
        # The role that a caller came in with may be old: what counts is what he is when he acts.
        who = Caller(self.account_id, self.people[by].user_id, "owner", "session", uuid7())
        target = self.people[of]
        try:
            if what == "transfer":
                await members.transfer(self.database, self.redis, who, Transfer(user_id=target.user_id, password=PASSWORD))
            elif what == "invite":
                await self._invite(who, target, role)
            else:
                async with self.database.transaction(self.account_id) as session:
                    if what == "role":
                        await members.set_role(session, who, target.user_id, role)
                    elif what == "remove":
                        await members.remove(session, who, target.user_id)
                    else:
                        await members.leave(session, who)
        except REFUSED:
            return

    async def _invite(self, who: Caller, target: Person, role: Role) -> None:
        async with self.database.transaction(self.account_id) as session:
            made = await members.invite(session, Sealer("tests"), who, NewInvitation(email=target.email, role=role), "")
        guest = Caller(target.account_id, target.user_id, "owner", "session", uuid7())
        given = Acceptance(token=made.link.partition("token=")[2])
        await members.accept(self.database, self.redis, guest, given, f"10.0.0.{uuid7().int % 250}", "")

    @invariant()
    def every_account_has_an_owner_and_every_person_an_account(self) -> None:
        self.do(self._check())

    async def _check(self) -> None:
        ownerless = "SELECT count(*) FROM accounts a WHERE NOT EXISTS (SELECT 1 FROM memberships m WHERE m.account_id = a.account_id AND m.role = 'owner')"
        assert await self.admin.fetchval(ownerless) == 0
        assert await self.admin.fetchval("SELECT count(*) FROM users u WHERE NOT EXISTS (SELECT 1 FROM memberships m WHERE m.user_id = u.user_id)") == 0

    def teardown(self) -> None:
        async def close() -> None:
            await self.database.close()
            await self.redis.aclose()
            await self.admin.close()

        self.do(close())
        self.runner.close()


def test_no_sequence_of_acts_leaves_an_account_without_an_owner(servers: Servers, clean: None) -> None:
    Members.servers = servers
    wanted = hypothesis_settings(max_examples=15, stateful_step_count=12, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    run_state_machine_as_test(Members, settings=wanted)
