"""Pictures of results: pure functions from a result to a figure; nothing is computed here."""
