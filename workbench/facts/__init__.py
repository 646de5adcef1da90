"""What the work is about: facts, requests, and their tokens."""
