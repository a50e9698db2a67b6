"""The GPU half on a machine without a GPU: the real packages, as far as they go.

What no package index has, or what only a GPU can do, is an empty stand-in (`stand_ins.py`):
NVIDIA's driver and TensorRT's own libraries. All else is what the extra `gpu` installs.
`make rehearse-gpu` runs these tests in an environment of their own.
"""
