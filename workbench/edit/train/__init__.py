"""Edits by training the chosen components: one file a method, over one loop."""
