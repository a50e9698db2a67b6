"""What we call of NVML's and Triton's Python packages exists in the oldest and the newest of them.

Both are pure Python, so their source is read. Triton's client is also really run, against a real
server (`make test-serving`).
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from tests.rehearsal.conftest import CONTRACT, ROOT

pytestmark = pytest.mark.rehearsal

TRITON_NAMES = {
    "InferInput", "InferRequestedOutput", "InferenceServerClient", "as_numpy", "infer",
    "set_data_from_numpy",
}  # fmt: skip


def versions(name: str) -> list[Path]:
    return sorted(CONTRACT.glob(f"{name}==*"))


def definitions(files: Iterable[Path]) -> dict[str, list[ast.FunctionDef]]:
    """Functions and methods by name; a class by its own, as its `__init__`."""
    found: dict[str, list[ast.FunctionDef]] = {}
    for file in files:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef):
                found.setdefault(node.name, []).append(node)
            elif isinstance(node, ast.ClassDef):
                made = [n for n in node.body if getattr(n, "name", "") == "__init__"]
                found.setdefault(node.name, []).extend(
                    n for n in made if isinstance(n, ast.FunctionDef)
                )
    return found


def calls(files: Iterable[Path], names: set[str] | None = None) -> Iterator[ast.Call]:
    """Calls of attributes with these names; of those of NVML without any."""
    for file in files:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                name = node.func.attr
                if name in names if names is not None else name.startswith("nvml"):
                    yield node


def takes(function: ast.FunctionDef, call: ast.Call) -> bool:
    """Whether a function has a parameter for each argument, and an argument for each it needs."""
    names = [parameter.arg for parameter in function.args.posonlyargs + function.args.args]
    method = names[:1] == ["self"]
    own = names[1:] if method else names
    needed = own[: len(own) - len(function.args.defaults)]
    given = own[: len(call.args)] + [word.arg for word in call.keywords if word.arg]
    fits = len(call.args) <= len(own) and set(given) <= {
        *own, *(parameter.arg for parameter in function.args.kwonlyargs)
    }  # fmt: skip
    return fits and set(needed) <= set(given)


@pytest.mark.parametrize("version", versions("tritonclient"), ids=lambda path: path.name)
@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_tritons_clients_take_our_calls(version: Path, protocol: str) -> None:
    theirs = definitions((version / "tritonclient" / protocol).glob("*.py"))
    program = ROOT / "tests" / "serving" / "programs" / "triton_client.py"
    ours = list(calls([program], TRITON_NAMES))
    assert {call.func.attr for call in ours if isinstance(call.func, ast.Attribute)} == TRITON_NAMES
    for call in ours:
        assert isinstance(call.func, ast.Attribute)
        known = theirs[call.func.attr]
        assert any(takes(function, call) for function in known), ast.unparse(call)


@pytest.mark.parametrize("version", versions("nvidia-ml-py"), ids=lambda path: path.name)
def test_nvml_has_what_we_use(version: Path) -> None:
    source = version / "pynvml.py"
    theirs = definitions([source])
    tree = ast.parse(source.read_text(encoding="utf-8"))
    constants = {
        target.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    known = constants | theirs.keys() | {n.name for n in tree.body if isinstance(n, ast.ClassDef)}
    ours = [file for name in ("exporter", "benchmarks") for file in (ROOT / name).rglob("*.py")]
    used = {
        node.attr
        for file in ours
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and node.attr.startswith(("nvml", "NVML"))
    }
    assert used <= known
    for call in calls(ours):
        assert isinstance(call.func, ast.Attribute)
        assert any(takes(f, call) for f in theirs[call.func.attr]), ast.unparse(call)
    assert not {"nvmlDeviceGetClockInfos", "NVML_CLOCK_SMS"} & known, "the reading is too wide"
