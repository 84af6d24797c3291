"""Frames between the host and the supervisor: payload length (u32), kind (u8), channel (u32), payload.

A channel is opened by a CALL and closed by its DONE. Flow is bounded by credit: a side sends at most WINDOW bytes of a
channel that the other has not granted back.
"""

import struct

HEADER = struct.Struct("!IBI")
CALL, DATA, ERR, EOF, CREDIT, DONE, HELLO = range(1, 8)
CHUNK = 64 * 1024
WINDOW = 512 * 1024
FRAME_LIMIT = 1024 * 1024
EARLY_BYTES = 16 * 1024
LOG_LIMIT = 10 * 1024 * 1024
FILE_SECONDS = 60.0
PROXY_PORT = 3128
WORKSPACE = "/workspace"


class Problem(Exception):
    """An answer instead of a result: a code that the host knows, and words."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code
