"""Weights: downloaded with care, loaded with every mismatch named, hashed.

How a checkpoint's file is read is in `checkpoint_file.py`, which of its tensors are a network's in
`checkpoint_fit.py`.
"""

from __future__ import annotations

import hashlib
import http.client
import re
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlparse

import torch
from torch import Tensor, nn

from exporter.disk.writing import can_write, whole_file
from exporter.errors import InputError
from exporter.models.checkpoint_file import WeightsFile, read_checkpoint
from exporter.models.checkpoint_fit import find_weights, some_of
from exporter.models.describe import one_line
from exporter.models.weight_types import why_unusable
from exporter.progress import Progress

TIMEOUT_S = 5.0
"""How long a connection and each read may take: a dead network must not hold up an export."""


class DownloadError(InputError):
    """A checkpoint could not be had from the network; a random model may stand in."""


def load_state(module: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Loads a state dict, in place, if it fits in every key, shape and type.

    Raises:
        InputError: with the keys that are missing, unexpected, of another shape or no numbers of
            the network's type, or whose numbers are not finite as float32.
    """
    own = module.state_dict()
    unusable = {k: why_unusable(state[k], own[k]) for k in own if k in state}
    mistyped = [f"{k} {why}" for k, why in unusable.items() if why is not None]
    if mistyped:
        raise InputError(
            f"{source} does not fit the model; {len(mistyped)} of another type: "
            f"{some_of(mistyped)}; save the state dict of the float32 network "
            "(dense, not quantized)"
        )
    # Checkpoints from before PyTorch 0.4.1 do not count batches; nothing depends on it.
    missing = [k for k in own if k not in state and not k.endswith("num_batches_tracked")]
    unexpected = [k for k in state if k not in own]
    misshaped = [
        f"{k} {tuple(state[k].shape)} for {tuple(own[k].shape)}"
        for k in own
        if k in state and state[k].shape != own[k].shape
    ]
    problems = [
        f"{len(keys)} {what}: {some_of(keys)}"
        for what, keys in (
            ("missing", missing),
            ("unexpected", unexpected),
            ("of another shape", misshaped),
        )
        if keys
    ]
    if problems:
        raise InputError(
            f"{source} does not fit the model; {'; '.join(problems)}; it has "
            f"{some_of([f'{k} {tuple(v.shape)}' for k, v in state.items()])}; "
            "choose the model that it was made for, or --num-classes"
        )
    module.load_state_dict(dict(state), strict=False)
    loaded = module.state_dict()
    broken = [k for k in state if loaded[k].is_floating_point() and not loaded[k].isfinite().all()]
    if broken:
        raise InputError(f"{source} holds values that are not finite in {some_of(broken)}")


def load_checkpoint(module: nn.Module, given: str) -> tuple[str, tuple[str, ...]]:
    """Loads what `--weights` names, in place: the source to record, and what is to be said.

    Raises:
        InputError: it is not a checkpoint, or not of this network.
    """
    file = WeightsFile.of(given)
    content = read_checkpoint(file.path)
    fit = find_weights(content, module.state_dict(), file.label, file.place)
    load_state(module, fit.state, file.label)
    return file.label, fit.notes


def state_sha256(module: nn.Module) -> str:
    """SHA-256 over every parameter and buffer: name, type, shape and bytes, in order of names."""
    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        if isinstance(value, Tensor):  # else what get_extra_state gave: no weights
            digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
            # As bytes: numpy has neither bfloat16 nor float8.
            row = value.detach().cpu().contiguous().flatten()
            digest.update(row.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def cache_folder() -> Path | None:
    """Where PyTorch keeps checkpoints ($TORCH_HOME), so that neither side downloads twice.

    None for a user without a home.
    """
    folder = torch.hub.get_dir()
    return None if folder.startswith("~") else Path(folder) / "checkpoints"


@contextmanager
def fetched(url: str, progress: Progress) -> Iterator[Path]:
    """The checkpoint's file: the one in the cache, else downloaded and kept there.

    A cached file that is damaged is replaced; where the cache cannot be written, the file is gone
    after the block. Both are noted.

    Raises:
        DownloadError: no network, or a broken transfer.
        InputError: the bytes don't have the hash that the name promises.
    """
    name = Path(urlparse(url).path).name
    promised = _promised_hash(name)
    folder = cache_folder()
    if folder is not None and (folder / name).is_file():
        try:
            whole = _sha256(folder / name).startswith(promised)
        except OSError:
            whole = False
        if whole:
            yield folder / name
            return
        progress.note(f"{folder / name} is damaged; it is downloaded again")
    with ExitStack() as stack:
        if folder is None or not can_write(folder):
            progress.note(f"{name} is not kept: the cache $TORCH_HOME cannot be written")
            folder = Path(stack.enter_context(TemporaryDirectory(prefix="exporter-")))
        with whole_file(folder / name) as file:
            _download(url, file, progress)
            found = _sha256(file)
            if not found.startswith(promised):
                raise InputError(
                    f"{url} has SHA-256 {found[:16]}..., its name promises {promised}; "
                    "it is not what was published"
                )
        yield folder / name


def answers(url: str) -> bool:
    """Whether a server, or the proxy on the way to it, can be reached."""
    head = urllib.request.Request(url, method="HEAD")  # noqa: S310 - https, or the user's own
    try:
        urllib.request.urlopen(head, timeout=TIMEOUT_S).close()  # noqa: S310
    except urllib.error.HTTPError:  # a refusal is an answer
        return True
    except (http.client.HTTPException, OSError, ValueError):
        return False
    return True


def _download(url: str, file: Path, progress: Progress) -> None:
    try:
        with (
            urllib.request.urlopen(url, timeout=TIMEOUT_S) as answer,  # noqa: S310 - https or loopback, from the table
            file.open("wb") as stream,
        ):
            total = int(answer.headers.get("Content-Length") or 0)
            title = f"download {Path(urlparse(url).path).name}"
            with progress.stage(title, total or None) as advance:
                received = 0
                while chunk := answer.read(1 << 20):
                    stream.write(chunk)
                    received += len(chunk)
                    advance(len(chunk))
    except (http.client.HTTPException, OSError) as error:
        reason = getattr(error, "strerror", None) or one_line(error)
        raise DownloadError(f"cannot download {url} ({reason})") from None
    if total and received != total:
        raise DownloadError(f"{url} broke off after {received} of {total} bytes; try again")


def _promised_hash(name: str) -> str:
    wanted = re.search(r"-([0-9a-f]{8,})\.", name)
    if wanted is None:
        raise InputError(f"{name} carries no hash in its name; give it as a local file instead")
    return wanted[1]


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
