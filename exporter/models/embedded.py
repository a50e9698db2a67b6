"""The small trained models inside the package, so that accuracy can be seen anywhere.

Each is trained on the training images of its `EmbeddedData`; the others are held out for good.

`python -m exporter.models.embedded MODEL` trains the model again and fails if it lands further than
TOLERANCE from the embedded weights; with --replace it replaces them instead.
"""

from __future__ import annotations

import argparse
import sys
from importlib import resources

import torch
from torch import nn

from exporter.disk.writing import whole_file
from exporter.images.embedded import EMBEDDED
from exporter.models.variants import build_variant

EPOCHS = 16
"""How often training sees each image."""
BATCH = 64
"""Images in one step of training."""
TOLERANCE = 0.01
"""How far, in top-1, another training may land from the embedded weights."""


def state(name: str) -> dict[str, torch.Tensor]:
    """The embedded weights."""
    from safetensors.torch import load_file

    with resources.as_file(_file(name)) as path:
        return dict(load_file(path))


def train(name: str, seed: int = 0, report: bool = True) -> nn.Module:
    """Trains on the training images; a minute or two on two cores.

    SGD with momentum, one-cycle learning rate, shifts of up to three pixels, mirroring where the
    classes allow it, and label smoothing.
    """
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    data = EMBEDDED[name]
    train_split, _ = data.splits()
    inputs = torch.from_numpy(data.normalise(train_split.images))
    labels = torch.from_numpy(train_split.labels)
    module = build_variant(name).train()
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight, nonlinearity="relu", generator=generator)
    optimizer = torch.optim.SGD(
        module.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4, nesterov=True
    )
    steps = EPOCHS * -(-len(inputs) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=steps)
    loss_of = nn.CrossEntropyLoss(label_smoothing=0.05)
    for epoch in range(EPOCHS):
        total = 0.0
        for chosen in torch.split(torch.randperm(len(inputs), generator=generator), BATCH):
            shift = torch.randint(-3, 4, (2,), generator=generator).tolist()
            batch = torch.roll(inputs[chosen], shift, dims=(2, 3))
            if data.mirrored and torch.randint(2, (), generator=generator):
                batch = batch.flip(3)
            loss = loss_of(module(batch), labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item() * len(chosen)
        if report:
            print(f"epoch {epoch + 1:2d} of {EPOCHS}: loss {total / len(inputs):.4f}", flush=True)  # noqa: T201
    return module.eval()


def top1(name: str, module: nn.Module, count: int | None = None) -> float:
    """Accuracy on the held-out images, or on the first `count` of them."""
    _, held_out = EMBEDDED[name].splits()
    inputs = torch.from_numpy(EMBEDDED[name].normalise(held_out.images[:count]))
    with torch.inference_mode():
        answers = torch.cat([module(batch).argmax(1) for batch in torch.split(inputs, 500)])
    return float((answers.numpy() == held_out.labels[:count]).mean())


def embedded(name: str) -> nn.Module:
    """The model with its embedded weights."""
    module = build_variant(name).eval()
    module.load_state_dict(state(name))
    return module


def main() -> int:
    """Trains again, compares, and replaces the embedded weights where that is allowed."""
    parser = argparse.ArgumentParser(prog="make retrain", description=__doc__)
    parser.add_argument("model", choices=list(EMBEDDED))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--replace", action="store_true", help="replace the weights whatever")
    arguments = parser.parse_args()
    name = arguments.model
    module = train(name, arguments.seed)
    after = top1(name, module)
    print(f"top-1 on the {EMBEDDED[name].held_out} held-out images: {after:.2%}")  # noqa: T201
    if not arguments.replace:
        before = top1(name, embedded(name))
        near = abs(after - before) <= TOLERANCE + 1e-9
        verdict = f"{'within' if near else 'NOT within'} {100 * TOLERANCE:g} points"
        print(f"embedded weights: {before:.2%}; {verdict}")  # noqa: T201
        return 0 if near else 1
    from safetensors.torch import save_file

    with resources.as_file(_file(name)) as path, whole_file(path) as file:
        save_file(module.state_dict(), file)
    return 0


def _file(name: str) -> resources.abc.Traversable:
    return resources.files("exporter.models") / "data" / f"{name.replace('-', '_')}.safetensors"


if __name__ == "__main__":
    sys.exit(main())
