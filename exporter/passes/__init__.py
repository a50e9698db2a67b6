"""Graph passes: one transform a file, no I/O.

A pass is a function `(ir.Model, ...) -> PassReport` that changes the model it is given, in place;
whoever wants to keep the original clones it first (`lower.py` does). The order is in `lower.py`.
A second run of any pass changes nothing.
"""
