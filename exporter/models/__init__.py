"""Models: our definitions, their weights, and whatever else `MODEL` may name."""
