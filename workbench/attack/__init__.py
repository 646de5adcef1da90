"""Does removed knowledge come back? Attacks on an edited model, with the base and an oracle."""
