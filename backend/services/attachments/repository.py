"""SQL of attachments."""

from collections.abc import Sequence
from uuid import UUID

from backend.kit.db import Database, Row, Session

_ATTACHMENT = "attachment_id, name, media_type, size, created_at"


async def add(
    session: Session, attachment_id: UUID, sha256: bytes, size: int, name: str, media_type: str, excerpt: str | None, by: UUID
) -> None:
    """A new attachment."""
    sql = """INSERT INTO attachments (attachment_id, account_id, sha256, size, name, media_type, excerpt, created_by)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8)"""
    await session.execute(sql, attachment_id, session.account_id, sha256, size, name, media_type, excerpt, by)


async def attachment(session: Session, attachment_id: UUID) -> Row | None:
    """One attachment with its content's hash."""
    return await session.row(f"SELECT {_ATTACHMENT}, sha256 FROM attachments WHERE attachment_id = $1", attachment_id)


async def attach(session: Session, thread_id: UUID, message_id: UUID, attachment_ids: Sequence[UUID], folder: str) -> list[Row]:
    """Say what a message brings that is written in the same transaction; nothing when it is there already. A name that the thread has gets a
    piece of the id before it. The attachments that there are, as `of_messages` has them."""
    sql = """
        WITH asked AS (
            SELECT u.n, a.*, row_number() OVER (PARTITION BY a.name ORDER BY u.n) > 1
                   OR EXISTS (SELECT 1 FROM message_attachments o WHERE o.thread_id = $1 AND o.file_name = a.name AND o.message_id <> $2) AS is_taken
            FROM unnest($3::uuid[]) WITH ORDINALITY AS u (attachment_id, n) JOIN attachments a USING (attachment_id)
        ), named AS (
            SELECT asked.*, CASE WHEN is_taken THEN right(attachment_id::text, 8) || '-' || name ELSE name END AS file_name FROM asked
        ), linked AS (
            INSERT INTO message_attachments (message_id, position, account_id, thread_id, attachment_id, file_name)
            SELECT $2, n, account_id, $1, attachment_id, file_name FROM named WHERE NOT EXISTS (SELECT 1 FROM messages WHERE message_id = $2)
        )
        SELECT $2 AS message_id, attachment_id, name, media_type, size, excerpt, sha256, $4 || '/' || file_name AS path FROM named ORDER BY n"""
    return await session.fetch(sql, thread_id, message_id, list(attachment_ids), folder)


async def of_messages(session: Session, message_ids: Sequence[UUID], folder: str) -> list[Row]:
    """What these messages brought, each in order."""
    sql = """SELECT l.message_id, a.attachment_id, a.name, a.media_type, a.size, a.excerpt, a.sha256, $2 || '/' || l.file_name AS path
        FROM message_attachments l JOIN attachments a USING (attachment_id) WHERE l.message_id = ANY ($1) ORDER BY l.message_id, l.position"""
    return await session.fetch(sql, list(message_ids), folder)


async def copy(session: Session, to_thread: UUID, old: Sequence[UUID], new: Sequence[UUID]) -> None:
    """What messages brought, their copies in another thread bring too."""
    sql = """INSERT INTO message_attachments (message_id, position, account_id, thread_id, attachment_id, file_name)
        SELECT c.new_id, l.position, l.account_id, $1, l.attachment_id, l.file_name
        FROM unnest($2::uuid[], $3::uuid[]) AS c (old_id, new_id) JOIN message_attachments l ON l.message_id = c.old_id"""
    await session.execute(sql, to_thread, list(old), list(new))


async def forget_unused(database: Database) -> None:
    """Delete attachments that no message has, of all accounts."""
    await database.lookup("SELECT forget_attachments()")


async def nobodys(database: Database, contents: Sequence[bytes]) -> list[bytes]:
    """Which of these contents no row names."""
    return [row["sha256"] for row in await database.fetch("SELECT sha256 FROM nobodys_blobs($1)", list(contents))]
