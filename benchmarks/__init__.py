"""The suite that measures this compiler's engines against what a user would pick instead.

    python -m benchmarks run --quick        # `make bench-quick`

Each command is the function `command` of the module that measures; `__main__` says which.

Data goes one way: `suite` (what is measured, as a table) -> `artifacts` (the files, built once) ->
`sampling` (one interleaved run, processes of their own) -> `record` (raw samples, kept) ->
`analysis` (ratios and intervals, from the raw file alone) -> `tables` and `plots`.

`throughput` and `sharing` put processes of a build under load: the layouts of one engine, and
processes that compute on the same cores (`python -m benchmarks sharing build/resnet50`).

`mixed_search` holds what a search for mixed precision finds against random sets
(`python -m benchmarks mixed-search --max-drop 1%`).

`pictures` goes from JPEG bytes to labels and from `uint8` images to logits, as the peers' users do
it and through `exporter.runtime` (`python -m benchmarks pictures`).

Beside it, questions of their own, each `python -m benchmarks.NAME --help`:

    int8_accuracy       how far INT8 is from float32, ours against the peers', on a model of yours
    rounding_errors     how far BF16 is from float32 beside INT8, on trained networks
    calibration_cost    time and memory of a calibration
    placement           which tensors INT8 for TensorRT quantizes, ours beside ModelOpt's
    preprocessing       what `--bake-preprocess` gains, from 8-bit images to logits
    gpu_report          what a GPU says of this project, in one archive (`make gpu-report`)
    pipeline            how near `exporter evaluate` comes to decoding and computing alone
    serving_overhead    what `exporter.runtime` costs beyond the runtime library
"""

import exporter  # noqa: F401 - first: it switches off the telemetry of what is imported here
