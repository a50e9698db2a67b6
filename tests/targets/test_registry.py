"""The registry, and the wall around it: outside `targets/` nothing names a target."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

import pytest

import exporter
from exporter import host
from exporter.artifact import Precision, Skipped
from exporter.errors import MissingDependencyError, UsageError
from exporter.targets import (
    TARGETS,
    MachineKind,
    Mark,
    get_target,
    settings_of,
    target_class,
    why_not_here,
)

ROOT = Path(exporter.__file__).parent
NAME = re.compile(rf"(?<![\w-])({'|'.join(sorted(TARGETS, key=len, reverse=True))})(?![\w-])")
# Words that are a library's or a server's own name too, where they stand for that.
OTHER_MEANINGS = {
    "host.py": {"openvino", "tensorrt", "tensorrt-rtx"},  # libraries, and what pip calls them
    "measure/ceilings.py": {"openvino"},  # the library
    "pack/ovms.py": {"openvino"},  # the server's image
    "pack/triton_backends.py": {"openvino", "tensorrt"},  # Triton's own names
    "pack/request.py": {"openvino", "tensorrt"},  # Triton's backends, in the help of --backend
}


def sources() -> Iterator[Path]:
    for path in sorted(ROOT.rglob("*.py")):
        if path.relative_to(ROOT).parts[0] not in {"targets", "runtime"}:
            yield path


def strings(tree: ast.AST) -> Iterator[ast.Constant]:
    """Every string literal but docstrings, those of attributes included."""
    prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose:
            yield node


def test_no_literal_outside_targets_names_a_target() -> None:
    found, meant = [], {name: set[str]() for name in OTHER_MEANINGS}
    for path in sources():
        relative = path.relative_to(ROOT).as_posix()
        for node in strings(ast.parse(path.read_text(encoding="utf-8"))):
            for name in NAME.findall(str(node.value)):
                if name in OTHER_MEANINGS.get(relative, ()):
                    meant[relative].add(name)
                else:
                    found.append(f"{relative}:{node.lineno}: {name}")
    assert found == []
    assert meant == OTHER_MEANINGS


def test_no_template_or_shipped_file_names_a_target() -> None:
    kinds = {".j2", ".html", ".js", ".ts", ".css"}
    files = [path for path in ROOT.rglob("*") if path.suffix in kinds]
    assert len(files) > 20
    found = [
        f"{path.relative_to(ROOT)}:{number}: {name}"
        for path in files
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        for name in NAME.findall(line)
    ]
    assert found == []


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ('x = "ort-cpu"', ["ort-cpu"]),
        ('x = f"--target tensorrt-rtx:sm89 {y}"', ["tensorrt-rtx"]),
        ('x = "ort-cpu.fp32, openvino"', ["ort-cpu", "openvino"]),
        ('"""About ort-cpu."""\nclass A:\n    x: int\n    """For openvino."""', []),
        ('x = "tensorrt_rtx", "tensorrt-cu13", "TensorRT"', []),
    ],
)
def test_the_search_finds_what_it_is_for(text: str, names: list[str]) -> None:
    found = [name for node in strings(ast.parse(text)) for name in NAME.findall(str(node.value))]
    assert found == names


def test_every_target_has_a_mark_of_its_own_which_the_report_draws() -> None:
    marks = [target_class(name).mark for name in TARGETS]
    assert len(set(marks)) == len(marks)
    assert set(marks) <= set(Mark)
    macros = resources.files("exporter.report") / "templates" / "macros.html.j2"
    text = macros.read_text(encoding="utf-8")
    assert all(f'id="m-{mark}"' in text for mark in Mark)


@pytest.mark.parametrize("name", TARGETS)
def test_what_a_class_says_of_itself_holds_together(name: str) -> None:
    cls = target_class(name)
    assert cls.family == name
    pairs = [pair for kind in MachineKind for pair in cls.default_for(kind)]
    assert pairs
    assert len(set(pairs)) == len(pairs)


@pytest.mark.parametrize(
    "name", ["ort-cpu", "ort-cpu:amx", "openvino", "tensorrt-rtx", "tensorrt-rtx:sm75"]
)
def test_a_target_has_a_dialect_for_each_of_its_precisions_and_no_other(name: str) -> None:
    try:
        target = get_target(name)
    except MissingDependencyError as error:
        pytest.skip(str(error))
    assert target.name == name
    for precision in Precision:
        if precision in (*target.precisions, *target.on_request):
            target.dialect(precision)
        else:
            with pytest.raises(UsageError):
                target.dialect(precision)


def test_an_unknown_target_lists_the_nearest() -> None:
    with pytest.raises(UsageError, match="unknown target 'ort-cpuu'; did you mean ort-cpu"):
        get_target("ort-cpuu:amx")
    with pytest.raises(UsageError, match="a variant is letters and digits"):
        get_target("ort-cpu:../amx")


def test_an_engine_is_not_run_where_the_cpu_lacks_what_it_requires(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    requires = {"cpu_flags": ["avx2", "avx512_bf16"]}
    monkeypatch.setattr(host, "cpu_flags", lambda: frozenset({"avx2"}))
    absent = why_not_here("ort-cpu", requires)
    assert absent == Skipped("built, not run here: this CPU lacks avx512_bf16")
    for flags in ({"avx2", "avx512_bf16"}, set[str]()):  # unreadable ones exclude nothing
        monkeypatch.setattr(host, "cpu_flags", lambda flags=flags: frozenset(flags))
        assert why_not_here("ort-cpu", requires) is None


def test_a_target_that_cannot_be_had_says_why_it_does_not_run_here() -> None:
    assert why_not_here("ort-cpu") is None
    unknown = why_not_here("somebody-elses")
    assert isinstance(unknown, Skipped)
    assert unknown.skipped.startswith("unknown target 'somebody-elses'")


def test_a_target_takes_its_own_settings_and_the_profile_if_it_has_one() -> None:
    settings = {"ort-cpu": {"a": "1"}, "tensorrt-rtx": {"tf32": "on"}}
    cpu = get_target("ort-cpu")
    assert settings_of(cpu, settings, "1:8:32") == {"a": "1"}
    try:
        rtx = get_target("tensorrt-rtx:sm89")
    except MissingDependencyError as error:
        pytest.skip(str(error))
    assert settings_of(rtx, settings, None) == {"tf32": "on"}
    assert settings_of(rtx, settings, "1:8:32") == {"tf32": "on", "profile": "1:8:32"}
    own = {"tensorrt-rtx": {"profile": "2:2:2"}}
    assert settings_of(rtx, own, "1:8:32") == {"profile": "2:2:2"}
