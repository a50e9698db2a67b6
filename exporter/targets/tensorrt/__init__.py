"""TensorRT and TensorRT-RTX: what builds plans, and what reads back what was built."""
