"""ONNX Runtime's providers, each a target: CPU, CUDA, TensorRT."""
