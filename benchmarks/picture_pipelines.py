"""From a picture to an answer, as users of each runtime write it: loaders for the worker's process.

A job has `path`, `runtime`, `decode`, `normalise` and `contract`: how the picture is framed and
normalised. With `pictures`, a folder of JPEGs, an inference is all of them, one after the other,
each from the bytes of its file to a label; without, it is a batch of `uint8` images (N, H, W, 3) of
the model's size, to its logits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from exporter.measure.clock import Run
from exporter.runtime import load
from exporter.runtime.pictures import Framing, frame
from exporter.targets import Array

Images = npt.NDArray[np.uint8]
Step = Callable[[Any], Any]


class Decode(StrEnum):
    """What makes pixels of a JPEG, and resizes and crops them."""

    PILLOW = "Pillow"
    """With a low-pass filter: torchvision's pixels, and this project's."""
    OPENCV = "OpenCV"
    """Without one: faster, and other pixels."""


class Normalise(StrEnum):
    """What makes the model's input of pixels."""

    TORCH = "PyTorch"
    """`ToTensor` and `Normalize`, as torchvision has them."""
    NUMPY = "numpy"
    OPENVINO = "PrePostProcessor"
    """OpenVINO's own, compiled into the model, which takes the pixels."""


class Runtime(StrEnum):
    """What computes."""

    TORCH = "PyTorch"
    ONNXRUNTIME = "ONNX Runtime"
    OPENVINO = "OpenVINO"


def load_peer(job: Mapping[str, Any]) -> Callable[[Array], Run]:
    """A peer's pipeline; its label is the best class, with no probabilities made."""
    if Runtime.TORCH in (job["runtime"], job["normalise"]):
        import torch

        # Where it only normalises, one: two pools of threads would be in each other's way.
        torch.set_num_threads(job["threads"] if job["runtime"] == Runtime.TORCH else 1)
    infer = _RUNTIMES[Runtime(job["runtime"])](job)
    normalise = _normalise(job)
    pixels = _pillow if job["decode"] == Decode.PILLOW else _opencv
    framing = _framing(job["contract"])

    def labelled(content: bytes) -> int:
        return int(np.asarray(infer(normalise(pixels(content, framing)[None]))).argmax())

    return _placed(job, labelled, lambda images: infer(normalise(images)))


def load_ours(job: Mapping[str, Any]) -> Callable[[Array], Run]:
    """An engine of a bundle with its preprocessing in it, by `exporter.runtime` (`engine`)."""
    from PIL import Image

    engine = load(job["path"], engine=job["engine"], threads=job["threads"])

    def labelled(content: bytes) -> int:
        return engine.predict(Image.open(BytesIO(content)))[0][0].index

    return _placed(job, labelled, engine)


def _placed(job: Mapping[str, Any], labelled: Step, logits: Step) -> Callable[[Array], Run]:
    if "pictures" not in job:
        return lambda images: lambda: logits(images)
    contents = [path.read_bytes() for path in sorted(Path(job["pictures"]).glob("*.jpg"))]
    return lambda _: lambda: [labelled(content) for content in contents]


def _framing(contract: Mapping[str, Any]) -> Framing:
    sizes = (tuple(x) if isinstance(x := contract[k], list) else x for k in ("resize", "crop"))
    resize, crop = sizes
    return Framing(resize, crop, contract["interpolation"])


def _pillow(content: bytes, framing: Framing) -> Images:
    from PIL import Image

    picture = Image.open(BytesIO(content)).convert("RGB")
    size, box = frame(picture.size, framing)
    resized = picture.resize(size, Image.Resampling[framing.interpolation.upper()])
    return np.asarray(resized.crop(box))


def _opencv(content: bytes, framing: Framing) -> Images:
    import cv2

    from exporter.images.opencv import INTERPOLATION

    decoded = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    assert decoded is not None, "the benchmark has just written it"
    size, (left, top, right, bottom) = frame(decoded.shape[1::-1], framing)
    how = getattr(cv2, INTERPOLATION[framing.interpolation])
    cropped = cv2.resize(decoded, size, interpolation=how)[top:bottom, left:right]
    rgb: Images = cv2.cvtColor(cropped, cv2.COLOR_BGR2RGB)
    return rgb


def _normalise(job: Mapping[str, Any]) -> Step:
    mean, std = (np.array(job["contract"][key], np.float32) for key in ("mean", "std"))
    if job["normalise"] == Normalise.OPENVINO:
        return lambda images: images

    def by_numpy(images: Images) -> Array:
        values: Array = images.astype(np.float32)
        values /= np.float32(255)
        values -= mean
        values /= std
        return np.ascontiguousarray(values.transpose(0, 3, 1, 2))

    if job["normalise"] == Normalise.NUMPY:
        return by_numpy
    import torch

    means, stds = (torch.from_numpy(one).view(1, -1, 1, 1) for one in (mean, std))

    def by_torch(images: Images) -> Any:
        # PIL's memory is read-only, of which PyTorch warns; ToTensor copies it as well.
        values = torch.from_numpy(images.copy()).permute(0, 3, 1, 2).contiguous()
        values = values.to(torch.float32).div(255).sub_(means).div_(stds)
        return values if job["runtime"] == Runtime.TORCH else values.numpy()

    return by_torch


def _torch(job: Mapping[str, Any]) -> Step:
    import torch

    # The benchmark has just written this file: nothing foreign is unpickled.
    module = torch.load(job["path"], weights_only=False)

    def infer(batch: Any) -> Any:
        with torch.inference_mode():
            return module(batch).numpy()

    return infer


def _onnxruntime(job: Mapping[str, Any]) -> Step:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = job["threads"]
    session = ort.InferenceSession(job["path"], options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda batch: session.run(None, {name: batch})[0]


def _openvino(job: Mapping[str, Any]) -> Step:
    import openvino as ov

    core = ov.Core()
    model = core.read_model(job["path"])
    if job["normalise"] == Normalise.OPENVINO:
        contract = job["contract"]
        made = ov.preprocess.PrePostProcessor(model)
        made.input().tensor().set_element_type(ov.Type.u8).set_layout(ov.Layout("NHWC"))
        made.input().model().set_layout(ov.Layout("NCHW"))
        steps = made.input().preprocess().convert_element_type(ov.Type.f32)
        steps.mean([255 * value for value in contract["mean"]])
        steps.scale([255 * value for value in contract["std"]])
        model = made.build()
    settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": job["threads"]}
    if job["hint"] != "default":
        settings["INFERENCE_PRECISION_HINT"] = job["hint"]
    request = core.compile_model(model, "CPU", settings).create_infer_request()
    return lambda batch: next(iter(request.infer({0: batch}, share_inputs=True).values()))


_RUNTIMES: Mapping[Runtime, Callable[[Mapping[str, Any]], Step]] = {
    Runtime.TORCH: _torch,
    Runtime.ONNXRUNTIME: _onnxruntime,
    Runtime.OPENVINO: _openvino,
}
