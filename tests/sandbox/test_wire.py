"""The host's end of the socket, with a supervisor that is not ours at the other."""

import asyncio
import json
import os
import socket
from collections.abc import AsyncIterator

import pytest

from backend.sandbox.inside.frames import CREDIT, DATA, DONE, FRAME_LIMIT, HEADER, WINDOW
from backend.sandbox.protocol import Conflict, InvalidCall, NotFound, QuotaExceeded, SandboxDied
from backend.sandbox.wire import Connection


@pytest.fixture
async def ends() -> AsyncIterator[tuple[Connection, socket.socket]]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    connection = await Connection.over(ours)
    yield connection, theirs
    theirs.close()
    await connection.close()


async def answer_with(
    ends: tuple[Connection, socket.socket], *frames: bytes
) -> tuple[dict[str, object], bytes]:
    """Make a call and answer it with these bytes."""
    connection, theirs = ends
    calling = asyncio.create_task(connection.call("anything"))
    loop = asyncio.get_running_loop()
    await loop.sock_recv(theirs, 65536)
    for frame in frames:
        await loop.sock_sendall(theirs, frame)
    return await asyncio.wait_for(calling, 10)


def frame(kind: int, payload: bytes, channel: int = 1) -> bytes:
    return HEADER.pack(len(payload), kind, channel) + payload


async def test_an_answer_and_its_data_come_back(ends: tuple[Connection, socket.socket]) -> None:
    assert await answer_with(ends, frame(DATA, b"data"), frame(DONE, b'{"a": 1}')) == ({"a": 1}, b"data")


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("not_found", NotFound),
        ("quota", QuotaExceeded),
        ("conflict", Conflict),
        ("invalid", InvalidCall),
        ("surprise", InvalidCall),
    ],
)
async def test_problems_become_errors(
    ends: tuple[Connection, socket.socket], code: str, kind: type[Exception]
) -> None:
    with pytest.raises(kind, match="words"):
        await answer_with(ends, frame(DONE, json.dumps({"error": code, "text": "words" * 1000}).encode()))


@pytest.mark.parametrize(
    "lie",
    [
        HEADER.pack(FRAME_LIMIT + 1, DATA, 1),
        HEADER.pack(0xFFFFFFFF, DATA, 1),
        HEADER.pack(3, 99, 1) + b"abc",
        frame(DONE, b"not json"),
        frame(DONE, b"[1, 2]"),
        frame(DONE, b"\xff\xfe"),
    ],
)
async def test_a_supervisor_that_lies_is_given_up(ends: tuple[Connection, socket.socket], lie: bytes) -> None:
    with pytest.raises(SandboxDied):
        await answer_with(ends, lie)


async def test_a_supervisor_that_sends_more_than_it_was_granted_is_given_up(
    ends: tuple[Connection, socket.socket],
) -> None:
    connection, theirs = ends
    connection.open()
    flood = frame(DATA, bytes(FRAME_LIMIT)) * (WINDOW // FRAME_LIMIT + 3)
    with pytest.raises(OSError):
        while True:
            await asyncio.wait_for(asyncio.get_running_loop().sock_sendall(theirs, flood), 10)
    await asyncio.wait_for(connection.ended.wait(), 10)
    assert "more was sent" in connection.reason


async def test_frames_for_channels_that_nobody_opened_are_ignored(
    ends: tuple[Connection, socket.socket],
) -> None:
    strange = [frame(kind, os.urandom(50), channel=7) for kind in (DATA, CREDIT, DONE)]
    assert (await answer_with(ends, *strange, frame(DONE, b"{}")))[0] == {}


async def test_a_hang_up_fails_every_call(ends: tuple[Connection, socket.socket]) -> None:
    connection, theirs = ends
    calls = [asyncio.create_task(connection.call("anything")) for _ in range(3)]
    await asyncio.get_running_loop().sock_recv(theirs, 1)
    theirs.shutdown(socket.SHUT_RDWR)
    for result in await asyncio.gather(*calls, return_exceptions=True):
        assert isinstance(result, SandboxDied)
