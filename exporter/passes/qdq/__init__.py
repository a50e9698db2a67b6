"""The INT8 pass: where Q/DQ pairs go in each dialect, and how they are made."""
