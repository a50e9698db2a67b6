# Builds a plan again on the GPU that will serve it, from the ONNX file in a packed Triton repository.
# TAG is that of the server's container, so that both have the same TensorRT; what follows `trtexec` in the
# repository's README.md follows the image. From the checkout:
#   docker build -f docker/rebuild.Dockerfile --build-arg TAG=25.11-py3 -t resnet-rebuild docker
#   docker run --rm --gpus all --user "$(id -u)" -v "$PWD/dist/models/resnet50:/model" \
#       resnet-rebuild --onnx=onnx/model.onnx --saveEngine=1/model.plan --timingCacheFile=timing.cache ...
# Linted, never built here: the base is NVIDIA's, and needs a GPU.
ARG TAG=25.11-py3
FROM nvcr.io/nvidia/tensorrt:${TAG}

USER 1000
WORKDIR /model
ENTRYPOINT ["trtexec"]
