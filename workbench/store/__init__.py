"""Runs on disk: what was run, with what, how it ended, and what came of it."""
