"""Checkpoints: what loads, what is refused and in which words, and a real download on loopback."""

from __future__ import annotations

import hashlib
import http.server
import os
import pickle
import random
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from exporter.errors import InputError, UsageError
from exporter.models import weights
from exporter.models.checkpoint_file import read_checkpoint
from exporter.models.sources import define
from exporter.models.variants import build_variant
from exporter.progress import Silent


@pytest.fixture
def state() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return build_variant("resnet20").state_dict()


@pytest.mark.parametrize(
    "wrap",
    [
        lambda s: s,
        lambda s: {f"module.{k}": v for k, v in s.items()},
        lambda s: {"state_dict": s, "epoch": 3},
        lambda s: {"model": {f"module.{k}": v for k, v in s.items()}, "best": 0.9},
    ],
    ids=["plain", "DataParallel", "nested", "nested DataParallel"],
)
def test_usual_checkpoints_load(
    tmp_path: Path, state: dict[str, torch.Tensor], wrap: object
) -> None:
    assert callable(wrap)
    path = tmp_path / "checkpoint.pth"
    torch.save(wrap(state), path)
    loaded = define("resnet20", str(path), progress=Silent())
    assert loaded.spec.weights.trained
    assert loaded.spec.weights.source == "checkpoint.pth"
    assert loaded.module is not None
    for key, value in loaded.module.state_dict().items():
        assert torch.equal(value, state[key])


def test_safetensors_and_pickle_of_the_same_weights_have_one_hash(
    tmp_path: Path, state: dict[str, torch.Tensor]
) -> None:
    save_file(state, tmp_path / "a.safetensors")
    torch.save(state, tmp_path / "a.pt")
    hashes = {
        define("resnet20", str(path), progress=Silent()).spec.weights.sha256
        for path in tmp_path.iterdir()
    }
    assert len(hashes) == 1


def test_num_classes_comes_from_the_head(tmp_path: Path) -> None:
    torch.save(build_variant("resnet20", 7).state_dict(), tmp_path / "seven.pth")
    model = define("resnet20", str(tmp_path / "seven.pth"), progress=Silent())
    assert model.spec.output.shape == ("batch", 7)
    with pytest.raises(InputError, match=r"has 7 classes .*--num-classes asks for 10"):
        define("resnet20", str(tmp_path / "seven.pth"), num_classes=10, progress=Silent())


def test_a_mismatch_lists_missing_unexpected_and_misshaped_keys(
    state: dict[str, torch.Tensor],
) -> None:
    del state["layer1.0.conv1.weight"]
    state["extra.weight"] = torch.zeros(1)
    state["conv1.weight"] = torch.zeros(16, 1, 3, 3)
    with pytest.raises(InputError) as caught:
        weights.load_state(build_variant("resnet20"), state, "x.pth")
    text = str(caught.value)
    assert "1 missing: layer1.0.conv1.weight" in text
    assert "1 unexpected: extra.weight" in text
    assert "conv1.weight (16, 1, 3, 3) for (16, 3, 3, 3)" in text
    assert "\n" not in text
    state["\x1b[31m\n" * 1000] = torch.zeros(1)
    with pytest.raises(InputError) as caught:
        weights.load_state(build_variant("resnet20"), state, "x.pth")
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 1000


def test_values_that_are_not_finite_are_refused(state: dict[str, torch.Tensor]) -> None:
    state["fc.bias"][2] = float("nan")
    with pytest.raises(InputError, match=r"not finite in fc\.bias"):
        weights.load_state(build_variant("resnet20"), state, "x.pth")


class Hostile:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return exec, ("raise SystemExit('code in a checkpoint was executed')",)


@pytest.mark.parametrize("protocol", [None, 0, 2, 4], ids=lambda p: f"pickle {p}" if p else "zip")
def test_code_in_a_checkpoint_is_refused_and_not_run(tmp_path: Path, protocol: int | None) -> None:
    path = tmp_path / "evil.pth"
    if protocol is None:
        torch.save({"state_dict": Hostile()}, path)
    else:
        path.write_bytes(pickle.dumps({"state_dict": Hostile()}, protocol))
    with pytest.raises(InputError, match="objects that loading would execute") as caught:
        read_checkpoint(path)
    text = str(caught.value)
    assert "\n" not in text
    assert "trust" not in text  # PyTorch's own advice is to load it unsafely
    if protocol in (None, 2):
        assert "(exec)" in text


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("keep", [0, 10, 2000])
def test_truncated_files_are_one_line(
    tmp_path: Path, state: dict[str, torch.Tensor], suffix: str, keep: int
) -> None:
    path = tmp_path / f"cut{suffix}"
    if suffix == ".pth":
        torch.save(state, path)
    else:
        save_file(state, path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(InputError, match=f"cut{suffix}") as caught:
        read_checkpoint(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("form", ["zip", "before 1.6", "safetensors"])
def test_damaged_checkpoints_are_refused_in_one_line(
    tmp_path: Path, state: dict[str, torch.Tensor], form: str
) -> None:
    """Seeded damage, most of it where the structure is; PyTorch's readers raise a dozen kinds."""
    small = {key: value for key, value in state.items() if "layer" not in key}
    path = tmp_path / ("x.safetensors" if form == "safetensors" else "x.pth")
    if form == "safetensors":
        save_file(small, path)
    else:
        torch.save(small, path, _use_new_zipfile_serialization=form == "zip")
    whole = path.read_bytes()
    refused = 0
    for seed in range(300):
        rng = random.Random(seed)
        damaged = bytearray(whole)
        for _ in range(rng.randrange(1, 5)):
            damaged[rng.randrange(1500)] = rng.randrange(256)
            damaged[-rng.randrange(1, 1500)] = rng.randrange(256)
        path.write_bytes(damaged)
        try:
            read_checkpoint(path)
        except InputError as error:
            refused += 1
            assert "\n" not in str(error)  # noqa: PT017 - only some of the damage is fatal
            assert len(str(error)) < 600  # noqa: PT017
    assert refused > 100


def test_a_flipped_bit_in_a_tensor_is_found(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    torch.save(state, tmp_path / "x.pth")
    damaged = bytearray((tmp_path / "x.pth").read_bytes())
    damaged[len(damaged) // 2] ^= 1
    (tmp_path / "x.pth").write_bytes(damaged)
    with pytest.raises(InputError, match=r"the checksum of .* fails"):
        read_checkpoint(tmp_path / "x.pth")


def test_missing_files_and_tensors_without_names(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        read_checkpoint(tmp_path / "nowhere.pth")
    torch.save({"epoch": 3}, tmp_path / "empty.pth")
    with pytest.raises(InputError, match="holds no tensors by name"):
        define("resnet20", str(tmp_path / "empty.pth"), progress=Silent())
    torch.save([torch.zeros(1)], tmp_path / "list.pth")
    with pytest.raises(InputError, match="holds a list, expected a state dict"):
        read_checkpoint(tmp_path / "list.pth")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    folder = tmp_path / "served"
    folder.mkdir()
    handler = partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{httpd.server_port}"
        httpd.shutdown()
        thread.join()


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        """Says nothing."""


CONTENT = b"weights" * 1000
NAME = f"net-{hashlib.sha256(CONTENT).hexdigest()[:8]}.pth"


@pytest.fixture
def published(tmp_path: Path, server: str) -> str:
    """The address of a checkpoint."""
    (tmp_path / "served" / NAME).write_bytes(CONTENT)
    return f"{server}/{NAME}"


def test_a_download_is_checked_and_cached(
    tmp_path: Path, published: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    kept = tmp_path / "home" / "hub" / "checkpoints" / NAME
    for _ in range(2):  # the second time from the cache
        with weights.fetched(published, Silent()) as path:
            assert path == kept
            assert path.read_bytes() == CONTENT
        (tmp_path / "served" / NAME).unlink(missing_ok=True)
    assert list(kept.parent.iterdir()) == [kept]


def test_a_damaged_file_in_the_cache_is_downloaded_again(
    tmp_path: Path, published: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    kept = tmp_path / "home" / "hub" / "checkpoints" / NAME
    kept.parent.mkdir(parents=True)
    kept.write_bytes(CONTENT[:-1])
    progress = Silent()
    with weights.fetched(published, progress) as path:
        assert path.read_bytes() == CONTENT
    (note,) = progress.notes
    assert note.startswith(f"{kept} is damaged")
    assert kept.read_bytes() == CONTENT


@pytest.mark.parametrize("home", ["a file", "none"])
def test_without_a_cache_a_download_is_used_all_the_same(
    tmp_path: Path, published: str, monkeypatch: pytest.MonkeyPatch, home: str
) -> None:
    if home == "none":
        monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
        monkeypatch.delenv("TORCH_HOME", raising=False)
        monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    else:
        monkeypatch.setenv("TORCH_HOME", str(tmp_path / "served" / NAME))
    monkeypatch.chdir(tmp_path)
    progress = Silent()
    with weights.fetched(published, progress) as path:
        assert path.read_bytes() == CONTENT
    assert not path.exists()
    (note,) = progress.notes
    assert "$TORCH_HOME cannot be written" in note
    assert [entry.name for entry in tmp_path.iterdir()] == ["served"]


def test_a_download_with_other_bytes_leaves_nothing(
    tmp_path: Path, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    (tmp_path / "served" / "net-00000000.pth").write_bytes(b"other")
    for name, message in {
        "net-00000000.pth": "its name promises 00000000",
        "absent-00000000.pth": "cannot download",
    }.items():
        with (
            pytest.raises(InputError, match=message),
            weights.fetched(f"{server}/{name}", Silent()),
        ):
            pytest.fail("there is no such checkpoint")
    assert list((tmp_path / "home" / "hub" / "checkpoints").iterdir()) == []


def test_an_unknown_weights_name_lists_the_published_ones() -> None:
    with pytest.raises(UsageError, match="known: IMAGENET1K_V1, IMAGENET1K_V2"):
        define("resnet50", "IMAGENET1K_V9", progress=Silent())


def test_a_server_answers_where_it_can_be_reached(server: str) -> None:
    assert weights.answers(server)
    assert weights.answers(f"{server}/absent")  # it says no: that is an answer
    assert not weights.answers("http://127.0.0.1:9")
