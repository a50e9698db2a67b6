"""Rewrites with the same numbers, bit for bit, in a form that one runtime computes sooner."""
