"""The image networks beside PyTorch's: a forward pass and a training step, float32, random data.

* efficientnet_b3: at 300 x 300, beside geffnet's tf_efficientnet_b3;
* resnest: resnest50_fast_2s2x40d at 224 x 224, beside the resnest package's.

PyTorch computes in its default layout and in `channels_last`. A training step is the forward pass
with batch statistics, the gradient of the mean cross entropy, and Adam. One of ours at 300 x 300
keeps 0.4 GB for each image of the batch. The quick sizes are smaller images, where the many small
layers weigh more.
"""

from __future__ import annotations

import functools
import sys
import warnings
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from benchmarks.row import Peer, Row, Side, Work

if TYPE_CHECKING:
    from torch import nn

RESNEST = "resnest50_fast_2s2x40d"
OUTPUTS, HEAD_WIDTH = 206, 512
# PyTorch's names of its memory formats.
LAYOUTS = {"PyTorch": "contiguous_format", "PyTorch, channels_last": "channels_last"}
BATCH = {"tiny": 2, "quick": 4, "full": 16}
SIDES = {
    "efficientnet_b3": {"tiny": 40, "quick": 96, "full": 300},
    "resnest": {"tiny": 40, "quick": 96, "full": 224},
}


class _Pass(NamedTuple):
    """A compiled forward pass or training step, and the operations that XLA counts in it."""

    run: Any
    flops: float


def network_of(name: str) -> Any:
    from moa_jax.models.efficientnet import EfficientNet
    from moa_jax.models.hyperparameters import RESNESTS
    from moa_jax.models.resnest import ResNeSt

    if name == "efficientnet_b3":
        return EfficientNet("b3", OUTPUTS, HEAD_WIDTH)
    return ResNeSt(**RESNESTS[RESNEST], num_outputs=OUTPUTS, head_width=HEAD_WIDTH)


def data(name: str, size: str) -> tuple[np.ndarray, np.ndarray]:
    generator, side = np.random.default_rng(0), SIDES[name][size]
    x = generator.random((BATCH[size], side, side, 3), np.float32)
    return x, (generator.random((len(x), OUTPUTS)) < 0.004).astype(np.float32)


def our_forward(name: str, size: str) -> Side:
    import jax
    import jax.numpy as jnp

    network, (x, _) = network_of(name), data(name, size)
    variables = jax.jit(network.init)(jax.random.key(0), x[:1, :33, :33])
    found = _compiled(jax.jit(network.apply), variables, jnp.asarray(x))
    run = functools.partial(found.run, variables, jnp.asarray(x))
    return Side(lambda: jax.block_until_ready(run()), len(x), Work(found.flops, x.nbytes))


def our_step(name: str, size: str) -> Side:
    import jax
    import jax.numpy as jnp
    import optax

    network, (x, y) = network_of(name), data(name, size)
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

    images, targets = jnp.asarray(x), jnp.asarray(y)
    found = _compiled(jax.jit(step, donate_argnums=0), state, images, targets)

    def run():
        nonlocal state
        state = jax.block_until_ready(found.run(state, images, targets))

    return Side(run, len(x), Work(found.flops, x.nbytes))


def _compiled(function: Any, *arguments: Any) -> _Pass:
    lowered = function.lower(*arguments)
    analysis = lowered.cost_analysis()
    counted = analysis[0] if isinstance(analysis, list) else analysis
    return _Pass(lowered.compile(), float((counted or {}).get("flops", 0.0)))


def their_pass(name: str, layout: str, trains: bool, size: str) -> Side:
    """Returns the side of a forward pass, or of a training step, of a network in PyTorch."""
    from torch.nn import functional

    from benchmarks.pytorch import torch

    (x, y), memory_format = data(name, size), getattr(torch, LAYOUTS[layout])
    network = PEERS[name][0]().to(memory_format=memory_format)
    images = torch.from_numpy(x).permute(0, 3, 1, 2).contiguous(memory_format=memory_format)
    targets = torch.from_numpy(y)
    optimiser = torch.optim.Adam(network.parameters(), fused=True)

    def forward():
        with torch.no_grad():
            network(images)

    def step():
        optimiser.zero_grad()
        functional.binary_cross_entropy_with_logits(network(images), targets).backward()
        optimiser.step()

    network.train(trains)
    return Side(step if trains else forward, len(x))


def head(inputs: int) -> nn.Module:
    from torch import nn

    return nn.Sequential(nn.Linear(inputs, HEAD_WIDTH), nn.ELU(), nn.Linear(HEAD_WIDTH, OUTPUTS))


def geffnet_b3() -> Any:
    geffnet = imported("geffnet")
    network = geffnet.create_model("tf_efficientnet_b3", drop_rate=0.3, drop_connect_rate=0.2)
    network.classifier = head(network.classifier.in_features)
    return network


def resnest_r2() -> Any:
    network = imported("resnest.torch").resnest50_fast_2s2x40d(pretrained=False)
    network.fc = head(network.fc.in_features)
    return network


def imported(name: str) -> Any:
    """Returns a library of networks; both warn of their own old TorchScript."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        __import__(name)
    return sys.modules[name]


# What makes the network in PyTorch, and the package that has it.
PEERS = {"efficientnet_b3": (geffnet_b3, "geffnet"), "resnest": (resnest_r2, "resnest")}


def _peers(name: str, trains: bool) -> dict[str, Peer]:
    package = PEERS[name][1]
    return {
        layout: Peer(
            functools.partial(their_pass, name, layout, trains),
            ("torch", package),
            f"moa-jax[torch] {package}",
        )
        for layout in LAYOUTS
    }


ROWS = tuple(
    row
    for name in PEERS
    for row in (
        Row(
            f"{name}.forward", "prediction", "images/s", functools.partial(our_forward, name),
            _peers(name, False), settles=True,
        ),
        Row(
            f"{name}.step", "training step, of each image", "ms", functools.partial(our_step, name),
            _peers(name, True), settles=True, quick=False,
        ),
    )
)  # fmt: skip
