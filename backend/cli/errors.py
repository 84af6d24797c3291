"""What a command reports as one line instead of a traceback."""


class Failure(Exception):
    """A command cannot do what was asked; the text says why and what to do."""
