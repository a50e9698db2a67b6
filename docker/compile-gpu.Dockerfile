# Compiles, proves and measures on an NVIDIA GPU: the exporter with the gpu extra. From the checkout:
#   docker build -f docker/compile-gpu.Dockerfile -t resnet-exporter-gpu .
#   docker run --rm --gpus all -v "$PWD/build:/home/exporter/build" -v resnet-cache:/home/exporter/.cache \
#       resnet-exporter-gpu export resnet50 --target tensorrt
# The second volume keeps the kernels' times, so that the next build is quick.
# Linted, never built here: gigabytes of CUDA, and a GPU to run it.
FROM python:3.13-slim-trixie

WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY exporter exporter
# hadolint ignore=DL3013
RUN python -m pip install --no-cache-dir '.[gpu]' && rm -rf /src/*

RUN useradd --create-home --uid 10001 exporter \
    && install -d -o exporter /home/exporter/build /home/exporter/.cache
# The driver's libraries are mounted by NVIDIA's container runtime.
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER 10001
WORKDIR /home/exporter
ENTRYPOINT ["exporter"]
CMD ["--help"]
