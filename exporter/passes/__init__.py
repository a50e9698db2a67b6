"""Graph passes: one transform a file, no I/O.

A pass is a function `(ir.Model, ...) -> PassReport` that changes the graph it is given, in place;
whoever wants to keep the original clones it first (`optimize` and `lower` do). Their order is in
`graph/optimize.py` and `graph/lower.py`. A second run of any pass changes nothing.

`graph` is an `ir.Model` throughout, `body` the `ir.Graph` inside it that holds nodes and weights.
"""
