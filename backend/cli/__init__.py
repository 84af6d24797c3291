"""The command line: everything that starts, moves, asks or looks after the product. The top floor."""


def main() -> None:
    """What the command `vibe` runs."""
    from backend.cli.commands import app

    app()
