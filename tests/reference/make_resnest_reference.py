"""Writes cnn_resnest_small.npz: shallow ResNeSts of other shapes, by their authors, in float64.

    python tests/reference/make_resnest_reference.py

Needs torch and resnest 0.0.5; the suite reads the arrays and runs without them. Weights follow
the rule of the other image references and are not stored.
"""

import zlib
from pathlib import Path

import numpy as np
import torch
from resnest.torch.resnet import Bottleneck, ResNet
from torch import nn

# Radix, cardinality and bottleneck width. All of them average behind the attention.
CASES = {"1s2x16d": (1, 2, 16), "4s2x8d": (4, 2, 8)}
ROWS, HEIGHT, WIDTH, STEM_WIDTH, HEAD_WIDTH, OUTPUTS, GAIN = 4, 45, 38, 6, 8, 5, 1.6


def draw(key, shape):
    n = np.random.default_rng(zlib.crc32(key.encode())).standard_normal(shape)
    last = key.rsplit(".", 1)[1]
    if last == "weight":
        n = 1 + 0.1 * n if len(shape) == 1 else n * np.sqrt(GAIN / np.prod(shape[1:]))
    else:
        n = 1 + 0.1 * abs(n) if last == "running_var" else 0.1 * n
    return torch.from_numpy(n.astype(np.float32).astype(np.float64))


def record(radix, cardinality, bottleneck_width):
    network = ResNet(
        Bottleneck,
        [1, 1, 1, 1],
        radix=radix,
        groups=cardinality,
        bottleneck_width=bottleneck_width,
        deep_stem=True,
        stem_width=STEM_WIDTH,
        avg_down=True,
        avd=True,
        avd_first=False,
    )
    network.fc = nn.Sequential(
        nn.Linear(network.fc.in_features, HEAD_WIDTH), nn.ELU(), nn.Linear(HEAD_WIDTH, OUTPUTS)
    )
    network = network.double()
    keys = [key for key in network.state_dict() if not key.endswith("num_batches_tracked")]
    shapes = {key: tuple(network.state_dict()[key].shape) for key in keys}
    network.load_state_dict({key: draw(key, shapes[key]) for key in keys}, strict=False)

    rng = np.random.default_rng(1)
    images = torch.from_numpy(rng.random((ROWS, 3, HEIGHT, WIDTH)))
    labels = torch.from_numpy((rng.random((ROWS, OUTPUTS)) < 0.3).astype(np.float64))
    arrays = {
        "names": np.array(keys),
        "shapes": np.array([",".join(map(str, shapes[key])) for key in keys]),
        "images.sum": images.sum(),
        "labels": labels,
        "eval.logits": network.eval()(images),
    }
    logits = network.train()(images)
    targets = labels * 0.999 + 0.0005
    loss = nn.functional.binary_cross_entropy_with_logits(logits, targets)
    loss.backward()
    parameters = dict(network.named_parameters())
    return arrays | {
        "train.logits": logits,
        "train.loss": loss,
        "parameters": np.array(list(parameters)),
        "gradient.norms": torch.stack([p.grad.norm() for p in parameters.values()]),
        "gradient.layer2.0.conv2.conv.weight": network.layer2[0].conv2.conv.weight.grad[:8],
        "gradient.layer2.0.conv2.fc2.weight": network.layer2[0].conv2.fc2.weight.grad,
    }


arrays = {}
for name, shape in CASES.items():
    for key, array in record(*shape).items():
        is_tensor = isinstance(array, torch.Tensor)
        arrays[f"{name}/{key}"] = array.detach().numpy() if is_tensor else array
np.savez_compressed(Path(__file__).with_name("cnn_resnest_small.npz"), **arrays)
