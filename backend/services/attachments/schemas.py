"""What attachments say over HTTP."""

from datetime import datetime
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

FOLDER = "attachments"  # in a workspace
MOST_OF_A_MESSAGE = 20


class _View(BaseModel):
    model_config = ConfigDict(frozen=True)


class Attachment(_View):
    """An uploaded file, to be named by a message within a day. `media_type` is what its bytes are."""

    attachment_id: UUID
    name: str
    media_type: str
    size: int
    created_at: datetime


class Attached(_View):
    """A file that a message brought. `path` is where it lies in the workspace."""

    attachment_id: UUID
    name: str
    media_type: str
    size: int = Field(description="Bytes.")
    path: str
