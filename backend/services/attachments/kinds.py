"""What a file is, by its bytes. A name or a claim only says which text a text is; what could act in a browser is bytes without a type."""

import codecs

OCTETS = "application/octet-stream"
EXCERPT_BYTES = 8_000
SHOWN_INLINE = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})

_MAGIC: tuple[tuple[bytes, str], ...] = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"%PDF-", "application/pdf"),
    (b"PK\x03\x04", "application/zip"),
    (b"PK\x05\x06", "application/zip"),
)
_PROGRAMS = (b"\x7fELF", b"MZ", b"\xca\xfe\xba\xbe", b"\xfe\xed\xfa", b"\xce\xfa\xed\xfe", b"\xcf\xfa\xed\xfe", b"\0asm")
_MARKUP = (b"<!doctype", b"<html", b"<svg", b"<?xml", b"<script", b"<head", b"<body", b"<!--")
_TEXTS = {
    "json": "application/json",
    "csv": "text/csv",
    "md": "text/markdown",
    "application/json": "application/json",
    "text/csv": "text/csv",
    "text/markdown": "text/markdown",
}


class Sniffer:
    """Sees a file go by. Afterwards `media_type` says what it is, and `excerpt` has a short text whole."""

    def __init__(self) -> None:
        self._head = bytearray()
        self._size = 0
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._is_text = True

    def feed(self, data: bytes) -> None:
        """The next bytes."""
        self._size += len(data)
        if len(self._head) <= EXCERPT_BYTES:
            self._head += data[: EXCERPT_BYTES + 1 - len(self._head)]
        if self._is_text:
            self._decode(data, final=False)

    def _decode(self, data: bytes, *, final: bool) -> None:
        try:
            self._decoder.decode(data, final)
        except UnicodeDecodeError:
            self._is_text = False
        self._is_text = self._is_text and b"\0" not in data

    def media_type(self, name: str, claimed: str) -> str:
        """What the file is, when all of it was seen."""
        head = bytes(self._head)
        if head.startswith(_PROGRAMS):
            return OCTETS
        if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
            return "image/webp"
        for magic, media_type in _MAGIC:
            if head.startswith(magic):
                return media_type
        if self._is_text:
            self._decode(b"", final=True)
        if not self._is_text or head.removeprefix(codecs.BOM_UTF8).lstrip()[:20].lower().startswith(_MARKUP):
            return OCTETS
        claim = claimed.partition(";")[0].strip().lower()
        return _TEXTS.get(name.rpartition(".")[2].lower()) or _TEXTS.get(claim, "text/plain")

    def excerpt(self, media_type: str) -> str | None:
        """The whole text, of a text that is short."""
        if self._size > EXCERPT_BYTES or not (media_type.startswith("text/") or media_type == "application/json"):
            return None
        return self._head.decode()
