"""Serve a bundle over HTTP with the standard library: POST an image, get the best labels as JSON.

    python examples/serve_bundle.py BUNDLE --port 8080
    curl --data-binary @cat.jpg http://127.0.0.1:8080/

Needs numpy, Pillow and the engine's runtime library; no PyTorch. The engine is loaded once, has
proved itself before the port opens, and is called from a thread a request.
"""

from __future__ import annotations

import argparse
import io
import json
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from pictures import open_picture, prepare
from PIL import UnidentifiedImageError

from exporter.runtime import Engine, ServingError, load

LARGEST_BODY = 20 << 20


def make_handler(engine: Engine, contract: Mapping[str, Any]) -> type[BaseHTTPRequestHandler]:
    """A request handler around one engine."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            if not 0 < length <= LARGEST_BODY:
                return self.answer(413, {"error": f"send 1 to {LARGEST_BODY} bytes"})
            try:
                picture = open_picture(io.BytesIO(self.rfile.read(length)))
                images = prepare(picture, contract)[None]
                (best,) = engine.predict(images)
            except (UnidentifiedImageError, OSError, ServingError) as error:
                return self.answer(400, {"error": str(error)})
            return self.answer(
                200, [{"label": p.label, "probability": p.probability} for p in best]
            )

        def answer(self, status: int, content: object) -> None:
            body = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    return Handler


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--port", type=int, default=8080)
    options = parser.parse_args()
    manifest = json.loads((options.bundle / "manifest.json").read_text(encoding="utf-8"))
    contract = manifest["model"]["preprocessing"]
    with load(options.bundle) as engine:
        handler = make_handler(engine, contract)
        with ThreadingHTTPServer(("127.0.0.1", options.port), handler) as server:
            print(f"{engine.id} at http://127.0.0.1:{server.server_port}/", flush=True)
            server.serve_forever()


if __name__ == "__main__":
    main()
