# Serves a packed Triton repository, and is unhealthy where it does not answer a golden input rightly.
# TAG is the container that the repository's README.md names. From the checkout:
#   docker build -f docker/triton.Dockerfile --build-arg TAG=25.11-py3 -t resnet-triton docker
#   docker run --rm --gpus all -p 127.0.0.1:8000:8000 -p 127.0.0.1:8001:8001 -v "$PWD/dist/models:/models:ro" \
#       resnet-triton --load-model=resnet50
# Linted, never built here: the base is NVIDIA's, and needs a GPU.
ARG TAG=25.11-py3
FROM nvcr.io/nvidia/tritonserver:${TAG}

HEALTHCHECK --interval=15s --timeout=20s --start-period=120s \
    CMD ["python3", "/models/probe.py", "--timeout", "15"]
USER 1000
EXPOSE 8000 8001
ENTRYPOINT ["tritonserver", "--model-repository=/models", "--model-control-mode=explicit"]
