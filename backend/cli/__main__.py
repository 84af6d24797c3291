"""`python -m backend.cli` is `vibe`."""

from backend.cli import main

main()
