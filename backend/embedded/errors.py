"""What can go wrong with an embedded server or its directory; the text says what to do."""


class EmbeddedError(Exception):
    """An embedded server cannot be used."""


class InUse(EmbeddedError):
    """Another product already runs on this data directory."""


class Unreachable(EmbeddedError):
    """A user that a server runs as cannot enter the data directory."""


class CannotStart(EmbeddedError):
    """An embedded server ended while it was starting."""


class NotPackaged(EmbeddedError):
    """The package that carries a server's binaries is not installed for this platform."""
