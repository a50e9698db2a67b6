"""A thin ResNet-50 trained on crops of the photographs that scikit-image ships, as an ONNX file.

    python -m benchmarks.photographs build/photographs        # minutes on two cores
    python -m benchmarks mixed-search build/photographs/thin_resnet50.onnx \
        --data build/photographs/held-out --preprocessing build/photographs/preprocessing.json \
        --min-sqnr 40

It is resnet50 with a quarter of the channels, on pictures of 64 x 64 pixels: trained weights of the
real depth, where nothing can be downloaded. A crop's class is the photograph that it is from;
training takes the left of each photograph, the held-out crops lie in the rest. What is written:
`thin_resnet50.onnx`, its `preprocessing.json`, and `held-out/CLASS/*.png`, which training has not
seen.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import nn

from exporter.disk.writing import whole_file
from exporter.errors import install_command
from exporter.models.resnet import Bottleneck, ResNet

PHOTOGRAPHS: Final = {
    "astronaut": "astronaut.png",
    "cat": "chelsea.png",
    "coffee": "coffee.png",
    "galaxies": "hubble_deep_field.jpg",
    "motorcycle": "motorcycle_left.png",
    "retina": "retina.jpg",
    "rocket": "rocket.jpg",
    "tissue": "ihc.png",
}
SIDE: Final = 64
TRAINED_ON: Final = 0.6
"""Of a photograph's width, from the left."""
TRAINING: Final = 300
"""Crops of each class in an epoch, drawn anew each time."""
HELD_OUT: Final = 150
"""Of each class."""
EPOCHS: Final = 14
BATCH: Final = 48
MEAN: Final = (0.485, 0.456, 0.406)
STD: Final = (0.229, 0.224, 0.225)

Pixels = npt.NDArray[np.uint8]


class Photographs:
    """The photographs, and crops of them."""

    def __init__(self) -> None:
        found = importlib.util.find_spec("skimage")
        if found is None or found.origin is None:
            raise SystemExit(f"scikit-image is not installed; run: {install_command('bench')}")
        folder = Path(found.origin).parent / "data"
        self._all = []
        for name in PHOTOGRAPHS.values():
            with Image.open(folder / name) as picture:
                self._all.append(np.asarray(picture.convert("RGB")))

    def crops(
        self, each: int, random: np.random.Generator, held_out: bool
    ) -> tuple[Pixels, list[int]]:
        """(N, SIDE, SIDE, 3) with their classes: `each` of every photograph, from its part."""
        pixels, labels = [], []
        for label, picture in enumerate(self._all):
            edge = int(TRAINED_ON * picture.shape[1])
            part = picture[:, edge:] if held_out else picture[:, :edge]
            for _ in range(each):
                pixels.append(_crop(part, random))
                labels.append(label)
        return np.stack(pixels), labels


def _crop(part: Pixels, random: np.random.Generator) -> Pixels:
    """A square of a fifth to four fifths of the shorter side, as often mirrored as not."""
    height, width = part.shape[:2]
    side = int(random.uniform(0.2, 0.8) * min(height, width))
    top, left = (int(random.integers(0, length - side + 1)) for length in (height, width))
    square = Image.fromarray(part[top : top + side, left : left + side])
    found: Pixels = np.asarray(square.resize((SIDE, SIDE), Image.Resampling.BILINEAR))
    return found[:, ::-1] if random.random() < 0.5 else found


def thin_resnet50() -> ResNet:
    """ResNet-50 with 16 channels where it has 64."""
    network = ResNet(Bottleneck, (3, 4, 6, 3), cifar=True, num_classes=len(PHOTOGRAPHS))
    network.conv1 = nn.Conv2d(3, 16, 7, 2, padding=3, bias=False)
    network.add_module("maxpool", nn.MaxPool2d(3, 2, padding=1))
    return network


def normalised(pixels: Pixels) -> torch.Tensor:
    """(N, H, W, 3) of 0..255 -> (N, 3, H, W)."""
    values = torch.from_numpy(np.ascontiguousarray(pixels)).float() / 255
    found: torch.Tensor = (values - torch.tensor(MEAN)) / torch.tensor(STD)
    return found.permute(0, 3, 1, 2).contiguous()


def train(photographs: Photographs, seed: int) -> ResNet:
    """SGD with momentum and a one-cycle learning rate; the running accuracy is printed."""
    torch.manual_seed(seed)
    random = np.random.default_rng(seed)
    network = thin_resnet50().train()
    optimizer = torch.optim.SGD(network.parameters(), 0.1, 0.9, weight_decay=5e-4, nesterov=True)
    count = TRAINING * len(PHOTOGRAPHS)
    steps = EPOCHS * -(-count // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=steps)
    loss_of = nn.CrossEntropyLoss(label_smoothing=0.05)
    for epoch in range(EPOCHS):
        pixels, labels = photographs.crops(TRAINING, random, held_out=False)
        inputs, wanted = normalised(pixels), torch.tensor(labels)
        right = 0
        for chosen in np.array_split(random.permutation(count), steps // EPOCHS):
            optimizer.zero_grad()
            answers = network(inputs[chosen])
            loss_of(answers, wanted[chosen]).backward()
            optimizer.step()
            schedule.step()
            right += int((answers.argmax(1) == wanted[chosen]).sum())
        print(f"epoch {epoch + 1} of {EPOCHS}: {right / count:.1%}", flush=True)  # noqa: T201
    return network.eval()


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    photographs = Photographs()
    network = train(photographs, options.seed)
    pixels, labels = photographs.crops(
        HELD_OUT, np.random.default_rng(options.seed + 1), held_out=True
    )
    with torch.inference_mode():
        answers = network(normalised(pixels)).argmax(1)
    print(f"held out: {float((answers == torch.tensor(labels)).float().mean()):.1%}")  # noqa: T201
    names = list(PHOTOGRAPHS)
    for number, (picture, label) in enumerate(zip(pixels, labels, strict=True)):
        folder = options.out / "held-out" / names[label]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(folder / f"{number:04}.png")
    contract = {"mean": MEAN, "std": STD}
    (options.out / "preprocessing.json").write_text(json.dumps(contract) + "\n")
    with whole_file(options.out / "thin_resnet50.onnx") as partial:
        torch.onnx.export(
            network,
            (torch.zeros(1, 3, SIDE, SIDE),),
            partial,
            input_names=["images"],
            output_names=["logits"],
            dynamic_shapes=[{0: torch.export.Dim("batch")}],
            external_data=False,
            verbose=False,
        )
    print(options.out / "thin_resnet50.onnx")  # noqa: T201


if __name__ == "__main__":
    main()
