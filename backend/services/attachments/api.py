"""HTTP of attachments."""

from collections.abc import AsyncIterator
from typing import Annotated
from urllib.parse import quote
from uuid import UUID

from fastapi import APIRouter, Depends, Header, Query, Request, Response
from fastapi.responses import FileResponse
from starlette.requests import ClientDisconnect

from backend.accounts.auth import Editor, Reader, Transaction
from backend.kit.http import OnGround, refusals, room_for_work
from backend.kit.problems import InvalidRequest
from backend.kit.settings import Settings
from backend.services.attachments import service
from backend.services.attachments.blobs import Blobs
from backend.services.attachments.kinds import SHOWN_INLINE
from backend.services.attachments.schemas import Attachment

PATH = "/api/attachments"
router = APIRouter(prefix=PATH, tags=["attachments"], responses=refusals(401))
_BYTES = {"schema": {"type": "string", "format": "binary"}}


def largest(settings: Settings) -> int:
    """Bytes that one attachment may have."""
    return settings.vibe_max_attachment_mb * 1_000_000


async def _pieces(request: Request) -> AsyncIterator[bytes]:
    try:
        async for piece in request.stream():
            yield piece
    except ClientDisconnect:
        raise InvalidRequest("The upload was broken off.") from None


@router.post(
    "",
    status_code=201,
    dependencies=[Depends(room_for_work)],
    responses=refusals(400, 403, 409, 413, 507),
    openapi_extra={"requestBody": {"required": True, "content": {"application/octet-stream": _BYTES}}},
)
async def upload_attachment(
    request: Request,
    who: Editor,
    on: OnGround,
    name: Annotated[str, Query(min_length=1, max_length=300, description="The file's name.")] = "file",
    idempotency_key: Annotated[str | None, Header(alias="idempotency-key", min_length=1, max_length=200)] = None,
) -> Attachment:
    """Upload a file: its bytes are the body. A message names it within a day; else it is forgotten."""
    return await service.store(
        on.database,
        Blobs(on.settings.vibe_data_dir),
        _pieces(request),
        who.account_id,
        who.user_id,
        name=name,
        claimed=request.headers.get("content-type", ""),
        most=largest(on.settings),
        key=idempotency_key,
    )


@router.get(
    "/{attachment_id}",
    response_class=Response,
    responses=refusals(404, 410) | {200: {"content": {"*/*": {}}}, 304: {"description": "It is what the caller has already"}},
)
async def read_attachment(
    attachment_id: UUID, who: Reader, session: Transaction, on: OnGround, if_none_match: Annotated[str | None, Header()] = None
) -> Response:
    """The file. Only pictures are shown in place, and nothing in it can act."""
    found, path, digest = await service.find(session, Blobs(on.settings.vibe_data_dir), attachment_id)
    etag = f'"{digest}"'
    where = "inline" if found.media_type in SHOWN_INLINE else "attachment"
    headers = {
        "ETag": etag,
        "Cache-Control": "private, no-cache",
        "Content-Disposition": f"{where}; filename*=UTF-8''{quote(found.name, safe='')}",
        "Content-Security-Policy": "default-src 'none'; sandbox",
    }
    if if_none_match is not None and etag in (one.strip() for one in if_none_match.split(",")):
        return Response(status_code=304, headers=headers)
    return FileResponse(path, headers=headers, media_type=found.media_type)
