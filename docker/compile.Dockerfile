# Compiles: the exporter with the cpu extra. From the checkout:
#   docker build -f docker/compile.Dockerfile -t resnet-exporter .
#   docker run --rm -v "$PWD/build:/home/exporter/build" resnet-exporter export resnet20-digits
FROM python:3.13-slim-trixie

# An index of CPU wheels of PyTorch, where PyPI's CUDA build (gigabytes) is too large.
ARG TORCH_INDEX=""

WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY constraints constraints
COPY exporter exporter
RUN python -m pip install --no-cache-dir -c constraints/cpu.txt \
        ${TORCH_INDEX:+--extra-index-url "${TORCH_INDEX}"} '.[cpu]' \
    && rm -rf /src/*

RUN useradd --create-home --uid 10001 exporter && install -d -o exporter /home/exporter/build
USER 10001
WORKDIR /home/exporter
ENTRYPOINT ["exporter"]
CMD ["--help"]
