"""The image networks beside PyTorch's: time of a forward pass and of a training step.

    python benchmarks/image_networks.py steps [--networks b3 r2] [--batch=16]
    python benchmarks/image_networks.py layers [--batch=16]

`steps` runs whole networks with the head of two layers, float32, on random data:

* b3: EfficientNet b3 at 300 x 300, beside geffnet's tf_efficientnet_b3;
* r2: resnest50_fast_2s2x40d at 224 x 224, beside the resnest package's.

PyTorch computes in its default layout and in `channels_last`. A training step is the forward pass
with batch statistics, the gradient of the mean cross entropy, and Adam.

`layers` runs single convolutions of both networks, forward and with both gradients.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import warnings
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from moa_jax.models.convolution import convolve
from moa_jax.models.efficientnet import EfficientNet
from moa_jax.models.hyperparameters import RESNESTS
from moa_jax.models.resnest import ResNeSt

try:
    import torch
    from torch import nn
    from torch.nn import functional
except ImportError:
    raise SystemExit(
        "torch: expected for the comparison, not installed; "
        "pip install moa-jax[torch] geffnet resnest"
    ) from None

RESNEST = "resnest50_fast_2s2x40d"
OUTPUTS, HEAD_WIDTH = 206, 512
LAYOUTS = {"torch": torch.contiguous_format, "channels_last": torch.channels_last}


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


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    modes = parser.add_subparsers(required=True)
    for mode, run in (("steps", steps), ("layers", layers)):
        subparser = modes.add_parser(mode)
        subparser.set_defaults(run=run)
        subparser.add_argument("--batch", type=int, default=16, help="images (16)")
        subparser.add_argument(
            "--repetitions", type=int, default=3, help="repetitions, of which the median counts (3)"
        )
        subparser.add_argument("--side", type=int, help="of the images, if not the layers' own")
        if mode == "steps":
            subparser.add_argument("--networks", nargs="+", default=list(NETWORKS), help="b3, r2")
    sizes = parser.parse_args(arguments)
    threads = len(os.sched_getaffinity(0))
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    print(
        f"{threads} threads, jax {jax.__version__}, torch {torch.__version__}; "
        f"batch {sizes.batch}, median of {sizes.repetitions}"
    )
    sizes.run(sizes)


def measure(ways: dict[str, Callable[[], None]], repetitions: int) -> dict[str, np.ndarray]:
    """Returns wall and processor seconds [repetitions, 2] of functions that ran in turns.

    Each runs twice in its turn and the second run counts, as in training, where step follows step:
    the first pays for memory that the others have left to the system.
    """
    found = {name: [] for name in ways}
    for _ in range(repetitions):
        for name, run in ways.items():
            run()
            start, start_processor = time.perf_counter(), time.process_time()
            run()
            found[name].append((time.perf_counter() - start, time.process_time() - start_processor))
    return {name: np.array(times) for name, times in found.items()}


def print_row(label: str, times: dict[str, np.ndarray]) -> None:
    """Prints milliseconds of our side, and PyTorch's time over ours in wall and processor time."""
    ours, *others = times.values()
    print(f"{label:32}", end="")
    for clock in range(2):
        print(f"{np.median(ours[:, clock]) * 1e3:10.1f}", end="")
        for other in others:
            print(f"{np.median(other[:, clock] / ours[:, clock]):15.2f}", end="")
    print(flush=True)


def print_header(others: list[str]) -> None:
    print("milliseconds of ours; PyTorch's time over ours, more than 1 where we are faster")
    columns = "".join(f"{name:>15}" for name in others)
    print(f"{'':32}{'ms':>10}{columns}{'CPU ms':>10}{columns}")


def steps(sizes: argparse.Namespace) -> None:
    """Prints times of forward passes and training steps, and what ours took to compile."""
    print_header(list(LAYOUTS))
    for name in sizes.networks:
        network, theirs, side = NETWORKS[name]
        side = sizes.side or side
        generator = np.random.default_rng(0)
        x = generator.random((sizes.batch, side, side, 3), np.float32)
        y = (generator.random((sizes.batch, OUTPUTS)) < 0.004).astype(np.float32)
        ours, seconds = our_passes(network, x, y)
        torch_passes = {layout: their_passes(theirs(), x, y, LAYOUTS[layout]) for layout in LAYOUTS}
        for index, which in enumerate(("forward", "step")):
            ways = {"ours": ours[index]}
            ways |= {layout: passes[index] for layout, passes in torch_passes.items()}
            label = f"{name} at {side}, {which}, compiled in {seconds[index]:.0f} s"
            print_row(label, measure(ways, sizes.repetitions))


Passes = tuple[Callable[[], None], Callable[[], None]]


def our_passes(
    network: nn.Module, x: np.ndarray, y: np.ndarray
) -> tuple[Passes, tuple[float, float]]:
    """Returns functions that run a forward pass and a training step, and seconds to compile."""
    variables = jax.jit(network.init)(jax.random.key(0), x[:1, :33, :33])
    optimiser = optax.adam(1e-3)
    state = (variables, optimiser.init(variables["params"]), jax.random.key(1))

    def step(state, x, y):
        variables, moments, key = state
        key, dropout = jax.random.split(key)

        def objective(params):
            logits, updated = network.apply(
                {**variables, "params": params},
                x,
                train=True,
                mutable=["batch_stats"],
                rngs={"dropout": dropout},
            )
            return optax.sigmoid_binary_cross_entropy(logits, y).mean(), updated

        gradients, updated = jax.grad(objective, has_aux=True)(variables["params"])
        updates, moments = optimiser.update(gradients, moments)
        params = optax.apply_updates(variables["params"], updates)
        return {"params": params, **updated}, moments, key

    x, y = jnp.asarray(x), jnp.asarray(y)
    start = time.perf_counter()
    forward = jax.jit(network.apply).lower(variables, x).compile()
    middle = time.perf_counter()
    step = jax.jit(step, donate_argnums=0).lower(state, x, y).compile()
    seconds = middle - start, time.perf_counter() - middle
    # The step may overwrite its own state, not what the forward pass reads.
    state = jax.tree.map(jnp.copy, state)

    def run_step():
        nonlocal state
        state = jax.block_until_ready(step(state, x, y))

    return (lambda: jax.block_until_ready(forward(variables, x)), run_step), seconds


def their_passes(
    network: nn.Module, x: np.ndarray, y: np.ndarray, layout: torch.memory_format
) -> Passes:
    """Returns functions that run a forward pass and a training step of a network in PyTorch."""
    network = network.to(memory_format=layout)
    images = torch.from_numpy(x).permute(0, 3, 1, 2).contiguous(memory_format=layout)
    targets = torch.from_numpy(y)
    optimiser = torch.optim.Adam(network.parameters(), fused=True)

    def run_forward():
        network.eval()
        with torch.no_grad():
            network(images)

    def run_step():
        network.train()
        optimiser.zero_grad()
        functional.binary_cross_entropy_with_logits(network(images), targets).backward()
        optimiser.step()

    return run_forward, run_step


def head(inputs: int) -> nn.Module:
    return nn.Sequential(nn.Linear(inputs, HEAD_WIDTH), nn.ELU(), nn.Linear(HEAD_WIDTH, OUTPUTS))


def geffnet_b3() -> nn.Module:
    geffnet = imported("geffnet")
    network = geffnet.create_model("tf_efficientnet_b3", drop_rate=0.3, drop_connect_rate=0.2)
    network.classifier = head(network.classifier.in_features)
    return network


def resnest_r2() -> nn.Module:
    network = imported("resnest.torch").resnest50_fast_2s2x40d(pretrained=False)
    network.fc = head(network.fc.in_features)
    return network


def imported(name: str):
    """Returns a library of networks; both warn of their own old TorchScript."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            __import__(name)
        except ImportError as error:
            raise SystemExit(
                f"{error.name}: expected for the comparison, not installed; "
                "pip install moa-jax[torch] geffnet resnest"
            ) from None
    return sys.modules[name]


# Our network, PyTorch's, and the height and width of the images.
NETWORKS = {
    "b3": (EfficientNet("b3", OUTPUTS, HEAD_WIDTH), geffnet_b3, 300),
    "r2": (
        ResNeSt(**RESNESTS[RESNEST], num_outputs=OUTPUTS, head_width=HEAD_WIDTH),
        resnest_r2,
        224,
    ),
}


def layers(sizes: argparse.Namespace) -> None:
    """Prints times of single convolutions, and of their two gradients."""
    print_header(list(LAYOUTS))
    for layer in LAYERS:
        side = sizes.side or layer.side
        generator = np.random.default_rng(0)
        x = generator.normal(size=(sizes.batch, side, side, layer.inputs)).astype(np.float32)
        shape = (layer.kernel, layer.kernel, layer.inputs // layer.groups, layer.outputs)
        kernel = generator.normal(size=shape).astype(np.float32)
        ours = our_convolution(layer, x, kernel)
        theirs = {
            name: their_convolution(layer, x, kernel, layout) for name, layout in LAYOUTS.items()
        }
        stride = f"/{layer.stride}" if layer.stride > 1 else ""
        name = f"{layer.family} {layer.kernel}x{layer.kernel}{stride} {side}, {layer.inputs}"
        for index, which in enumerate(("forward", "gradients")):
            ways = {"ours": ours[index]}
            ways |= {layout: passes[index] for layout, passes in theirs.items()}
            print_row(f"{name} {which}", measure(ways, sizes.repetitions))


def our_convolution(layer: Layer, x: np.ndarray, kernel: np.ndarray) -> Passes:
    def forward(x, kernel):
        return convolve(x, kernel, layer.stride, layer.kernel // 2, layer.groups)

    def gradients(x, kernel, cotangent):
        return jax.vjp(forward, x, kernel)[1](cotangent)

    x, kernel = jnp.asarray(x), jnp.asarray(kernel)
    compiled = jax.jit(forward), jax.jit(gradients)
    cotangent = jnp.ones_like(compiled[0](x, kernel))
    return (
        lambda: jax.block_until_ready(compiled[0](x, kernel)),
        lambda: jax.block_until_ready(compiled[1](x, kernel, cotangent)),
    )


def their_convolution(
    layer: Layer, x: np.ndarray, kernel: np.ndarray, layout: torch.memory_format
) -> Passes:
    images, weight = (
        torch.from_numpy(np.ascontiguousarray(array.transpose(order)))
        .contiguous(memory_format=layout)
        .requires_grad_()
        for array, order in ((x, (0, 3, 1, 2)), (kernel, (3, 2, 0, 1)))
    )

    def forward():
        return functional.conv2d(
            images, weight, stride=layer.stride, padding=layer.kernel // 2, groups=layer.groups
        )

    output = forward()
    cotangent = torch.ones_like(output)

    def run_forward():
        with torch.no_grad():
            forward()

    return run_forward, lambda: torch.autograd.grad(
        output, (images, weight), cotangent, retain_graph=True
    )


if __name__ == "__main__":
    main()
