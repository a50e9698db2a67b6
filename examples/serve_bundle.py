"""Serve a bundle over HTTP with the standard library: POST an image, get the best labels as JSON.

    python examples/serve_bundle.py BUNDLE --port 8080
    curl --data-binary @cat.jpg http://127.0.0.1:8080/

The engine is loaded once, has proved itself before the port opens, and is called from a thread a
request. Ctrl-C and SIGTERM end it: no request is taken any more, those in progress are answered.
Needs numpy, Pillow and the engine's runtime library (the extra `serve`); no PyTorch.
"""

from __future__ import annotations

import argparse
import io
import json
import signal
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from exporter.runtime import Engine, ServingError, load
from exporter.runtime.pictures import opened

LARGEST_BODY = 20 << 20
IDLE_S = 10.0
"""A client that sends nothing for so long is hung up on."""


class Server(ThreadingHTTPServer):
    """A thread a request; closing it waits for them."""

    daemon_threads = False

    def __init__(self, address: tuple[str, int], engine: Engine) -> None:
        super().__init__(address, Handler)
        self.engine = engine


class Handler(BaseHTTPRequestHandler):
    """Answers one picture."""

    server: Server
    timeout = IDLE_S

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or not 0 < int(length) <= LARGEST_BODY:
            return self.answer(413, {"error": f"send 1 to {LARGEST_BODY} bytes"})
        try:
            with opened(io.BytesIO(self.rfile.read(int(length)))) as picture:
                (best,) = self.server.engine.predict(picture)
        except (OSError, ServingError) as error:
            return self.answer(400, {"error": f"the picture {error}"})
        return self.answer(200, [{"label": p.label, "probability": p.probability} for p in best])

    def answer(self, status: int, content: object) -> None:
        """Sends JSON."""
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("bundle", type=Path, help="a bundle's folder or .tar.zst file")
    parser.add_argument("--host", default="127.0.0.1", help="default: this machine alone")
    parser.add_argument("--port", type=int, default=8080, help="0: any that is free")
    options = parser.parse_args()
    for number in (signal.SIGINT, signal.SIGTERM):  # a shell's background job ignores the first
        signal.signal(number, signal.default_int_handler)
    with suppress(KeyboardInterrupt):
        try:
            engine = load(options.bundle)
            server = Server((options.host, options.port), engine)
        except (OSError, OverflowError, ServingError) as error:
            parser.error(str(error))
        with engine, server:
            print(f"{engine.id} at http://{options.host}:{server.server_port}/", flush=True)
            server.serve_forever()


if __name__ == "__main__":
    main()
