"""The suite that measures this compiler's engines against what a user would pick instead.

    python -m benchmarks run --quick        # `make bench-quick`

Data goes one way: `suite` (what is measured, as a table) -> `artifacts` (the files, built once) ->
`sampling` (one interleaved run, processes of their own) -> `record` (raw samples, kept) ->
`analysis` (ratios and intervals, from the raw file alone) -> `tables` and `plots`.
"""
