"""Checkpoints: read safely, downloaded with care, loaded with every mismatch named.

`.pth` and `.pt` are read with `weights_only=True` (nothing in them is executed), `.safetensors`
with its own library. Keys may carry a `module.` prefix (DataParallel) or be nested under
`state_dict`, `model` or `model_state_dict`.
"""

from __future__ import annotations

import hashlib
import http.client
import pickle
import re
import urllib.error
import urllib.request
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlparse

import torch
from torch import Tensor, nn

from exporter.disk.writing import can_write, whole_file
from exporter.errors import InputError
from exporter.models.describe import one_line
from exporter.models.weight_types import why_unusable
from exporter.progress import Progress

NESTED_UNDER = ("state_dict", "model", "model_state_dict")
"""Keys under which training programs keep the state dict beside other things."""
TIMEOUT_S = 5.0
"""How long a connection and each read may take: a dead network must not hold up an export."""
KEYS_IN_A_MESSAGE = 3
"""How many of the keys that do not fit an error message names."""

State = dict[str, Tensor]


class DownloadError(InputError):
    """A checkpoint could not be had from the network; a random model may stand in."""


def read_checkpoint(path: Path) -> State:
    """The state dict in a checkpoint file, with `module.` prefixes and nesting undone.

    Raises:
        InputError: missing, truncated, not a checkpoint, or holding code to execute.
    """
    if not path.is_file():
        raise InputError(f"--weights {path}: no such file; give a .pth, .pt or .safetensors file")
    content = _read_safetensors(path) if path.suffix == ".safetensors" else _read_pickle(path)
    for key in NESTED_UNDER:
        inner = content.get(key)
        if isinstance(inner, Mapping):
            content = inner
    state = {
        str(key).removeprefix("module."): value
        for key, value in content.items()
        if isinstance(value, Tensor)
    }
    if not state:
        raise InputError(
            f"{path} holds no tensors by name; save it with torch.save(model.state_dict(), path)"
        )
    return state


def _read_safetensors(path: Path) -> Mapping[str, object]:
    from safetensors.torch import load_file

    try:
        content: Mapping[str, object] = load_file(path)
    except Exception as error:  # its own kind, OSError, or what building the tensors raises
        raise InputError(f"{path} is not a whole safetensors file ({one_line(error)})") from None
    return content


def _read_pickle(path: Path) -> Mapping[str, object]:
    _check_crc(path)
    try:
        with warnings.catch_warnings():
            # What it warns of (an unusual pickle protocol) is either fine or an error below.
            warnings.simplefilter("ignore")
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # PyTorch's message begins with how to execute the file after all; ours must not.
        reason = str(error).rpartition("WeightsUnpickler error:")[2].partition("Check the docu")[0]
        found = re.search(r"GLOBAL (\S+)", reason)
        what = found[1] if found else " ".join(reason.split())[:100]
        raise InputError(
            f"{path} is damaged or holds Python objects that loading would execute ({what}); "
            "it was refused: save the state dict alone, torch.save(model.state_dict(), path)"
        ) from None
    except Exception as error:  # a damaged pickle raises anything: IndexError, struct.error, ...
        raise InputError(
            f"{path} is truncated or not a PyTorch checkpoint ({one_line(error)})"
        ) from None
    if isinstance(content, Mapping):
        return content
    raise InputError(f"{path} holds a {type(content).__name__}, expected a state dict")


def _check_crc(path: Path) -> None:
    """PyTorch writes a checksum with each tensor and never reads it: a flipped bit would load."""
    try:
        if not zipfile.is_zipfile(path):  # the form from before PyTorch 1.6 has none
            return
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except Exception as error:  # zipfile raises its own, zlib's, NotImplementedError, ...
        raise InputError(f"{path} is truncated or damaged ({one_line(error)})") from None
    if damaged is not None:
        raise InputError(f"{path} is damaged: the checksum of {damaged} fails; copy it once more")


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
            f"{source} does not fit the model; {len(mistyped)} of another type: {_some(mistyped)}; "
            "save the state dict of the float32 network (dense, not quantized)"
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
        f"{len(keys)} {what}: {_some(keys)}"
        for what, keys in (
            ("missing", missing),
            ("unexpected", unexpected),
            ("of another shape", misshaped),
        )
        if keys
    ]
    if problems:
        raise InputError(
            f"{source} does not fit the model; {'; '.join(problems)}; "
            "choose the model that it was made for, or --num-classes"
        )
    module.load_state_dict(dict(state), strict=False)
    loaded = module.state_dict()
    broken = [k for k in state if loaded[k].is_floating_point() and not loaded[k].isfinite().all()]
    if broken:
        raise InputError(f"{source} holds values that are not finite in {_some(broken)}")


def state_sha256(module: nn.Module) -> str:
    """SHA-256 over every parameter and buffer: name, type, shape and bytes, in order of names."""
    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
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


def _some(keys: list[str]) -> str:
    # A file's keys may hold anything: line breaks, a terminal's control codes, a megabyte.
    shown = ", ".join(key if key.isprintable() else repr(key) for key in keys[:KEYS_IN_A_MESSAGE])
    shown = shown if len(shown) <= 400 else shown[:397] + "..."
    more = len(keys) - KEYS_IN_A_MESSAGE
    return f"{shown} and {more} more" if more > 0 else shown
