"""The bundled model: its invented world, its corpus, its training and its measurements."""
