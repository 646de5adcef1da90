"""The bundled model that sees: its people and their portraits, its corpus and its training."""
