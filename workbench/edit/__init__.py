"""How it is removed: every method turns a request and components into a `WeightDelta`."""
