"""Repairs asked for in plain words: understood, planned, made, proved, and undone."""
