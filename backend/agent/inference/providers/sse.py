"""Server-sent events, read as a client that cares only for `data`."""

MAX_EVENT_BYTES = 16 * 1024 * 1024


class TooLong(Exception):
    """One event is longer than 16 MB"""


class EventReader:
    """Cuts a byte stream into the data of its events, however the network cut it before.

    Knows LF, CRLF and CR, comments, other fields, and data of several lines.
    """

    def __init__(self) -> None:
        self._line: list[bytes] = []  # the line that has not ended yet
        self._data: list[bytes] = []  # lines of the event that has not ended yet
        self._held = 0
        self._after_cr = False

    def feed(self, data: bytes) -> list[bytes]:
        """The events that these bytes complete."""
        if self._after_cr and data.startswith(b"\n"):
            data = data[1:]
            self._after_cr = False
        if b"\r" in data:
            self._after_cr = data.endswith(b"\r")
            data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        elif data:
            self._after_cr = False
        lines = data.split(b"\n")
        if self._line and len(lines) > 1:
            lines[0] = b"".join(self._line) + lines[0]
            self._line.clear()
        rest = lines.pop()
        events = self._events(lines)
        if rest:
            self._line.append(rest)
        self._bound(len(data), bool(events))
        return events

    def end(self) -> list[bytes]:
        """What the stream held when it ended without the last empty line; many servers leave it out."""
        lines = [b"".join(self._line), b""]
        self._line.clear()
        return self._events(lines)

    def _events(self, lines: list[bytes]) -> list[bytes]:
        events: list[bytes] = []
        data = self._data
        for line in lines:
            if line.startswith(b"data:"):
                data.append(line[6:] if line.startswith(b" ", 5) else line[5:])
            elif not line and data:
                events.append(data[0] if len(data) == 1 else b"\n".join(data))
                data.clear()
        return events

    def _bound(self, size: int, emptied: bool) -> None:
        self._held = size if emptied else self._held + size
        if self._held > MAX_EVENT_BYTES and (self._line or self._data):
            raise TooLong
