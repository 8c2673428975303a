"""The command line: one small file per verb. A command parses, calls, prints."""

from scorefield.cli.main import app, main

__all__ = ["app", "main"]
