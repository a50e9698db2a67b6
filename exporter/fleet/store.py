"""Where a sweep's builds are kept: a folder of any file system that fsspec knows.

A build is copied file by file and its manifest last, so a folder with a manifest is a whole build,
whenever a node or the network went away.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from exporter.builds import manifest as manifests
from exporter.builds.records import Manifest
from exporter.disk.writing import write_whole
from exporter.errors import InputError
from exporter.images.sources.storage import reaching, resolved

_MARK: Final = "sweep-store.json"


@dataclass(frozen=True)
class Store:
    """It travels to a node by its address."""

    uri: str

    def prepare(self) -> None:
        """Writes a small file that says what the folder is: so that a store is missed at once.

        Raises:
            InputError: nothing can be written there.
            MissingDependencyError: fsspec, or what it needs for this store, is not installed.
        """
        with reaching(self.uri, f"store {self.uri} cannot be written"):
            self._write(_MARK, json.dumps({"kind": "sweep-store", "schema": 1}).encode())

    def manifest(self, build: str) -> Manifest | None:
        """The record of a build; None: it is not there, or not whole.

        Raises:
            InputError: the store cannot be reached, or the record was damaged.
        """
        system, root = resolved(self.uri, "store")
        path = f"{root}/{build}/{manifests.FILE_NAME}"
        with reaching(self.uri, f"store {self.uri} cannot be read"):
            system.invalidate_cache()
            if not system.exists(path):
                return None
            text = system.cat_file(path)
        name = f"{self.uri}/{build}/{manifests.FILE_NAME}"
        try:
            content = json.loads(text)
        except (ValueError, RecursionError):
            raise InputError(f"{name} is not valid JSON; remove its folder") from None
        return manifests.from_json(content, name)

    def put(self, folder: Path, build: str) -> None:
        """Copies a build, its manifest last.

        Raises:
            InputError: the store cannot be written.
        """
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        files.sort(key=lambda path: path.name == manifests.FILE_NAME)
        with reaching(self.uri, f"store {self.uri} cannot be written"):
            for path in files:
                self._write(f"{build}/{path.relative_to(folder).as_posix()}", path.read_bytes())

    def _write(self, name: str, content: bytes) -> None:
        system, root = resolved(self.uri, "store")
        path = f"{root}/{name}"
        if _is_disk(system):  # elsewhere a file appears whole, and has no folder
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            write_whole(Path(path), content)
        else:
            system.pipe_file(path, content)


def _is_disk(system: Any) -> bool:
    protocols = (system.protocol,) if isinstance(system.protocol, str) else system.protocol
    return "file" in protocols
