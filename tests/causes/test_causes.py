"""Each planted cause is the first that is named, and nothing is claimed of a healthy engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx_ir as ir
import pytest
from onnxruntime.quantization import QuantFormat, QuantType

from exporter.builds.explain_request import ExplainRequest
from exporter.causes.finding import Finding
from exporter.commands.explain_file import explain_file
from exporter.graph.files import save
from exporter.progress import Silent
from exporter.targets import Cause
from tests.causes import planted

ORT = "ort-cpu"
OPENVINO = "openvino"


@pytest.fixture(autouse=True)
def three_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """As few profiled inferences as there may be: which cause it is does not hang on times."""
    monkeypatch.setattr("exporter.causes.examine.BUDGET_S", 0.0)


@pytest.fixture(scope="module")
def network() -> ir.Model:
    return planted.network()


@pytest.fixture(scope="module")
def grouped() -> ir.Model:
    return planted.network(groups=8)


def findings(graph: ir.Model, folder: Path, target: str = ORT) -> tuple[Finding, ...]:
    path = folder / "given.onnx"
    save(graph, path)
    request = ExplainRequest(path, target=target, own_build=False, threads=1)
    return explain_file(request, Silent()).engine.findings


def named(graph: ir.Model, folder: Path, target: str = ORT) -> list[Cause]:
    return [finding.cause for finding in findings(graph, folder, target)]


IN_OURS = {
    Cause.SIGNED_ACTIVATIONS: planted.symmetric_activations,
    Cause.UNQUANTIZED_SUM: planted.bare_shortcut,
    Cause.FLOAT_LAYER: planted.float_convolution,
    Cause.BATCHNORM: planted.batchnorm,
    Cause.PER_TENSOR_WEIGHTS: planted.one_weight_scale,
    Cause.CAST: planted.cast_pair,
    Cause.BIAS_SCALE: planted.wrong_bias_scale,
}


@pytest.mark.parametrize("cause", IN_OURS)
def test_a_cause_in_our_own_graph_is_named_alone(
    network: ir.Model, tmp_path: Path, cause: Cause
) -> None:
    graph = planted.ours(network)
    IN_OURS[cause](graph)
    assert named(graph, tmp_path) == [cause]


THEIR_OPTIONS: dict[Cause, dict[str, Any]] = {
    Cause.SIGNED_ACTIVATIONS: {
        "activation_type": QuantType.QInt8,
        "extra_options": {"ActivationSymmetric": True},
    },
    Cause.FLOAT_LAYER: {"nodes_to_exclude": [planted.CONV]},
    Cause.PER_TENSOR_WEIGHTS: {"per_channel": False},
}


@pytest.mark.parametrize("cause", THEIR_OPTIONS)
def test_a_setting_of_onnx_runtimes_quantizer_is_named_alone(
    network: ir.Model, tmp_path: Path, cause: Cause
) -> None:
    graph = planted.theirs(network, tmp_path, **THEIR_OPTIONS[cause])
    assert named(graph, tmp_path) == [cause]


@pytest.mark.parametrize(
    ("cause", "spoil"),
    [(Cause.BATCHNORM, planted.batchnorm), (Cause.CAST, planted.cast_pair)],
)
def test_what_was_in_the_float_graph_is_named_alone(
    network: ir.Model, tmp_path: Path, cause: Cause, spoil: planted.Spoil
) -> None:
    spoilt = network.clone()
    spoil(spoilt)
    assert named(planted.theirs(spoilt, tmp_path), tmp_path) == [cause]


@pytest.mark.parametrize(
    ("cause", "spoil"),
    [
        (Cause.BIAS_SCALE, planted.wrong_bias_scale),
        (Cause.UNQUANTIZED_SUM, planted.bare_shortcut),
    ],
)
def test_what_is_missing_in_a_graph_of_onnx_runtimes_quantizer_is_named_alone(
    network: ir.Model, tmp_path: Path, cause: Cause, spoil: planted.Spoil
) -> None:
    graph = planted.theirs(network, tmp_path)
    spoil(graph)
    assert named(graph, tmp_path) == [cause]


def test_grouped_convolutions_are_named_first(grouped: ir.Model, tmp_path: Path) -> None:
    assert named(planted.ours(grouped), tmp_path)[0] is Cause.SMALL_GROUPS
    assert named(planted.theirs(grouped, tmp_path), tmp_path)[0] is Cause.SMALL_GROUPS


def test_the_default_settings_of_onnx_runtimes_quantizer_are_named(
    network: ir.Model, tmp_path: Path
) -> None:
    settings = {"activation_type": QuantType.QInt8, "per_channel": False}
    graph = planted.theirs(network, tmp_path, **settings)
    assert named(graph, tmp_path) == [Cause.SIGNED_ACTIVATIONS, Cause.PER_TENSOR_WEIGHTS]
    assert named(graph, tmp_path, OPENVINO) == [Cause.PER_TENSOR_WEIGHTS]


@pytest.mark.parametrize("target", [ORT, OPENVINO])
def test_nothing_is_claimed_of_a_healthy_graph(
    network: ir.Model, tmp_path: Path, target: str
) -> None:
    assert findings(network, tmp_path, target) == ()
    assert findings(planted.ours(network), tmp_path, target) == ()
    assert findings(planted.theirs(network, tmp_path), tmp_path, target) == ()


@pytest.mark.parametrize(
    ("cause", "spoil"),
    [
        (Cause.FLOAT_LAYER, planted.float_convolution),
        (Cause.PER_TENSOR_WEIGHTS, planted.one_weight_scale),
    ],
)
def test_what_openvino_shows_is_named_there(
    network: ir.Model, tmp_path: Path, cause: Cause, spoil: planted.Spoil
) -> None:
    graph = planted.ours(network)
    spoil(graph)
    assert named(graph, tmp_path, OPENVINO)[0] is cause


@pytest.mark.parametrize(
    "spoil",
    [
        planted.symmetric_activations,
        planted.wrong_bias_scale,
        planted.cast_pair,
        planted.batchnorm,
    ],
)
def test_what_openvino_fuses_all_the_same_is_not_claimed(
    network: ir.Model, tmp_path: Path, spoil: planted.Spoil
) -> None:
    graph = planted.ours(network)
    spoil(graph)
    assert findings(graph, tmp_path, OPENVINO) == ()


def test_nothing_is_claimed_of_nncfs_graph_on_openvino() -> None:
    """`nncf.quantize` of `planted.network()` with `planted.IMAGES`, as NNCF 3.4.0 wrote it."""
    path = Path(__file__).parent / "data" / "nncf-3.4.0.onnx"
    request = ExplainRequest(path, target=OPENVINO, own_build=False, threads=1)
    assert explain_file(request, Silent()).engine.findings == ()
    on_ort = ExplainRequest(path, target=ORT, own_build=False, threads=1)
    found = {finding.cause for finding in explain_file(on_ort, Silent()).engine.findings}
    assert found == {Cause.SIGNED_ACTIVATIONS, Cause.BIAS_SCALE}  # which is why it is slow there


@pytest.mark.parametrize("is_x86", [True, False])
def test_signed_qlinear_operators_have_a_slow_kernel_on_x86(
    network: ir.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_x86: bool
) -> None:
    monkeypatch.setattr("exporter.causes.signed_activations.on_x86", lambda: is_x86)
    options: dict[str, Any] = {
        "quant_format": QuantFormat.QOperator,
        "activation_type": QuantType.QInt8,
    }
    graph = planted.theirs(network, tmp_path, **options)
    found = findings(graph, tmp_path)
    assert [finding.cause for finding in found] == [Cause.SIGNED_ACTIVATIONS] * is_x86
    assert all("7 convolutions compute with signed" in finding.what for finding in found)
    assert findings(graph, tmp_path, OPENVINO) == ()


def test_nothing_is_claimed_of_unsigned_qlinear_operators_but_their_weights(
    network: ir.Model, tmp_path: Path
) -> None:
    operators = {"quant_format": QuantFormat.QOperator}
    assert findings(planted.theirs(network, tmp_path, **operators), tmp_path) == ()
    per_tensor = planted.theirs(network, tmp_path, **operators, per_channel=False)
    assert named(per_tensor, tmp_path) == [Cause.PER_TENSOR_WEIGHTS]


def test_a_layer_left_in_float_among_qlinear_operators_is_named_alone(
    network: ir.Model, tmp_path: Path
) -> None:
    options: dict[str, Any] = {
        "quant_format": QuantFormat.QOperator,
        "nodes_to_exclude": [planted.CONV],
    }
    assert named(planted.theirs(network, tmp_path, **options), tmp_path) == [Cause.FLOAT_LAYER]


@pytest.mark.parametrize("target", [ORT, OPENVINO])
def test_what_is_quantized_while_it_runs_is_named_first(
    network: ir.Model, tmp_path: Path, target: str
) -> None:
    found = findings(planted.at_run_time(network, tmp_path), tmp_path, target)
    assert [finding.cause for finding in found] == [Cause.RUN_TIME_RANGES]
    assert found[0].what.startswith("8 layers are quantized while they run")
    assert "quantize_static in the place of quantize_dynamic" in found[0].remedy
