"""Accounts themselves: opened, switched to, renamed, deleted with a proof."""

import logging
from uuid import UUID

from redis.asyncio import Redis

from backend.accounts import repository
from backend.accounts.schemas import Account, AccountDeletion, AccountName, DeletedAccount, DeletedRows, Me
from backend.accounts.service import Caller, RoleForbids, audit, check_password, claim, digest, me
from backend.kit.db import Database, Session
from backend.kit.problems import Conflict, InvalidRequest, NotFound

log = logging.getLogger(__name__)

ACCOUNTS_A_PERSON = 100


class TooManyAccounts(Conflict):
    """You have as many accounts as one person may have"""


async def mine(session: Session, who: Caller) -> list[Account]:
    """The caller's accounts with his role in each, oldest first; a key knows its own alone."""
    found = [Account(**dict(row)) for row in await repository.accounts_of(session, who.user_id)]
    return [account for account in found if who.via != "key" or account.account_id == who.account_id]


async def create(database: Database, who: Caller, new: AccountName, *, key: str | None = None) -> Account:
    """One more account, which the caller owns. With an Idempotency-Key asking twice makes one. Raises `TooManyAccounts`."""
    who.in_person()
    async with database.transaction(who.account_id) as session:
        account_id, is_new = await claim(session, key, digest(f"account {who.user_id} {new.name}"))
        if is_new and not await repository.open_account(session, who.user_id, account_id, new.name, ACCOUNTS_A_PERSON):
            raise TooManyAccounts(f"{ACCOUNTS_A_PERSON} is the bound.")
        found = {account.account_id: account for account in await mine(session, who)}
    if account_id not in found:
        raise NotFound()
    if is_new:
        async with database.transaction(account_id) as session:
            await audit(session, who.user_id, "account.created", str(account_id), {"name": new.name})
    return found[account_id]


async def switch(database: Database, who: Caller, account_id: UUID) -> Me:
    """Let the caller's session speak for another of his accounts from now on. Raises `NotFound` for one that is not his."""
    who.in_person()
    async with database.transaction(account_id) as session:
        if not await repository.switch_session(session, who.user_id, who.credential_id, account_id):
            raise NotFound()
        await audit(session, who.user_id, "account.switched", str(who.credential_id))
        return await me(session, who.user_id)


async def rename(session: Session, who: Caller, account_id: UUID, new: AccountName) -> Account:
    """Call the account something else. Raises `NotFound` for another than the caller's."""
    _own(who, account_id)
    await repository.rename_account(session, new.name)
    await audit(session, who.user_id, "account.renamed", str(account_id), {"name": new.name})
    return (await me(session, who.user_id)).account


async def delete(database: Database, redis: Redis, who: Caller, account_id: UUID, sure: AccountDeletion) -> DeletedAccount:
    """Remove every row of the account and count again. Raises `NotFound` for another than the caller's, `WrongPassword`, `InvalidRequest`."""
    _own(who, account_id)
    who.in_person()
    await check_password(database, redis, who, sure.password)
    async with database.transaction(account_id) as session:
        name = (await me(session, who.user_id)).account.name
        if sure.name.strip() != name.strip():
            raise InvalidRequest("Type the account's name exactly as it is written.")
        signed_out = len(await repository.accounts_of(session, who.user_id)) == 1
        rows = await repository.delete_account(session, who.user_id)
        if not rows:
            raise RoleForbids("Only an owner may do this.")
    tables = [DeletedRows(table=row["table_name"], deleted=row["deleted"], remaining=row["remaining"]) for row in rows]
    log.info("an account was deleted", extra={"account_id": str(account_id), "rows": sum(table.deleted for table in tables)})
    return DeletedAccount(tables=tables, signed_out=signed_out)


def _own(who: Caller, account_id: UUID) -> None:
    if account_id != who.account_id:
        raise NotFound("Switch to the account first.")
