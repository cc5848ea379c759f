"""Single convolutions of both image networks, forward and with both gradients, beside PyTorch's.

PyTorch runs in its default layout and in `channels_last`.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np

from benchmarks.image_networks import LAYOUTS
from benchmarks.row import Peer, Row, Side, Work

BATCH = {"tiny": 1, "quick": 4, "full": 16}
MOST_SIDE = {"tiny": 6, "quick": 300, "full": 300}


class Layer(NamedTuple):
    """A convolution that keeps the size of the image, or divides it by the stride."""

    family: str
    side: int
    kernel: int
    inputs: int
    outputs: int
    stride: int = 1
    groups: int = 1


LAYERS = (
    Layer("depthwise", 150, 3, 40, 40, 1, 40),
    Layer("depthwise", 150, 3, 144, 144, 2, 144),
    Layer("depthwise", 75, 3, 192, 192, 1, 192),
    Layer("depthwise", 75, 5, 192, 192, 2, 192),
    Layer("depthwise", 38, 5, 288, 288, 1, 288),
    Layer("depthwise", 19, 5, 816, 816, 1, 816),
    Layer("depthwise", 10, 5, 1392, 1392, 1, 1392),
    Layer("grouped", 56, 3, 80, 160, 1, 4),
    Layer("grouped", 28, 3, 160, 320, 1, 4),
    Layer("grouped", 14, 3, 320, 640, 1, 4),
    Layer("grouped", 7, 3, 640, 1280, 1, 4),
    Layer("pointwise", 150, 1, 24, 144),
    Layer("pointwise", 75, 1, 144, 32),
    Layer("pointwise", 56, 1, 256, 80),
    Layer("pointwise", 19, 1, 816, 136),
    Layer("pointwise", 7, 1, 2048, 640),
    Layer("dense", 300, 3, 3, 40, 2),
    Layer("dense", 112, 3, 32, 32),
    Layer("dense", 112, 3, 32, 64),
    Layer("dense", 56, 3, 64, 64),
)


def side_of(layer: Layer, size: str) -> int:
    return min(layer.side, MOST_SIDE[size])


def arrays(layer: Layer, size: str) -> tuple[np.ndarray, np.ndarray]:
    generator, side = np.random.default_rng(0), side_of(layer, size)
    x = generator.normal(size=(BATCH[size], side, side, layer.inputs)).astype(np.float32)
    shape = (layer.kernel, layer.kernel, layer.inputs // layer.groups, layer.outputs)
    return x, generator.normal(size=shape).astype(np.float32)


def work(layer: Layer, gradients: bool, size: str) -> Work:
    x, kernel = arrays(layer, size)
    places = BATCH[size] * (-(-side_of(layer, size) // layer.stride)) ** 2
    flops = 2 * places * kernel.size
    moved = x.nbytes + kernel.nbytes + 4 * places * layer.outputs
    return Work((1 + gradients) * flops, (1 + gradients) * moved)


def ours(layer: Layer, gradients: bool, size: str) -> Side:
    import jax
    import jax.numpy as jnp

    from moa_jax.models.convolution import convolve

    def forward(x, kernel):
        return convolve(x, kernel, layer.stride, layer.kernel // 2, layer.groups)

    def both(x, kernel, cotangent):
        return jax.vjp(forward, x, kernel)[1](cotangent)

    x, kernel = (jnp.asarray(array) for array in arrays(layer, size))
    compiled, operands = jax.jit(forward), (x, kernel)
    if gradients:
        operands += (jnp.ones_like(compiled(x, kernel)),)
        compiled = jax.jit(both)
    return Side(lambda: jax.block_until_ready(compiled(*operands)), 1, work(layer, gradients, size))


def theirs(layer: Layer, gradients: bool, layout: str, size: str) -> Side:
    from torch.nn import functional

    from benchmarks.pytorch import torch

    x, kernel = arrays(layer, size)
    images, weight = (
        torch.from_numpy(np.ascontiguousarray(array.transpose(order)))
        .contiguous(memory_format=getattr(torch, LAYOUTS[layout]))
        .requires_grad_()
        for array, order in ((x, (0, 3, 1, 2)), (kernel, (3, 2, 0, 1)))
    )

    def forward():
        return functional.conv2d(
            images, weight, stride=layer.stride, padding=layer.kernel // 2, groups=layer.groups
        )

    def run_forward():
        with torch.no_grad():
            forward()

    if not gradients:
        return Side(run_forward)
    output = forward()
    cotangent = torch.ones_like(output)
    return Side(lambda: torch.autograd.grad(output, (images, weight), cotangent, retain_graph=True))


def _row(layer: Layer, gradients: bool) -> Row:
    which = "gradients" if gradients else "forward"
    stride = f"/{layer.stride}" if layer.stride > 1 else ""
    kind = f"{layer.family}_{layer.kernel}x{layer.kernel}"
    name = f"convolutions.{kind}_{layer.side}_{layer.inputs}_{layer.outputs}_{which}"
    what = f"{layer.inputs} to {layer.outputs} channels at {layer.side}{stride}"
    peers = {
        layout: Peer(
            functools.partial(theirs, layer, gradients, layout), ("torch",), "moa-jax[torch]"
        )
        for layout in LAYOUTS
    }
    side = functools.partial(ours, layer, gradients)
    return Row(name, what, "ms", side, peers, settles=True, quick=False)


ROWS = tuple(_row(layer, gradients) for layer in LAYERS for gradients in (False, True))
