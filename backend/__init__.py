"""VIBE AI: autonomous agents that can be trusted with work and with money."""

__version__ = "0.1.0"
