# Serves a bundle over HTTP: numpy, ONNX Runtime and Pillow, no PyTorch. From the checkout:
#   docker build -f docker/serve.Dockerfile -t resnet-serve .
#   docker run --rm -p 127.0.0.1:8080:8080 -v "$PWD/bundle:/bundle:ro" resnet-serve --host 0.0.0.0
# Without --host it listens on the container's own loopback interface, which nobody reaches.
FROM python:3.13-slim-trixie

WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY constraints constraints
COPY exporter exporter
RUN python -m pip install --no-cache-dir -c constraints/cpu.txt '.[serve]' && rm -rf /src/*

RUN useradd --create-home --uid 10001 server
USER 10001
WORKDIR /app
COPY examples/serve_bundle.py ./

EXPOSE 8080
ENTRYPOINT ["python", "serve_bundle.py", "/bundle"]
