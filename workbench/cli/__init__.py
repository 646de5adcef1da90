"""The command line; thin: it reads options, calls the library and prints.

Nothing heavy is imported until a command runs, so `--help` answers at once.
"""

from workbench.cli.app import app, main

__all__ = ["app", "main"]
