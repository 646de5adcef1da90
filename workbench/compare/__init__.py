"""Several methods at several places, attacked alike, in one table."""
