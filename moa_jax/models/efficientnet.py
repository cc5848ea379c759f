"""EfficientNet: inverted residuals with squeeze and excitation, TensorFlow's or PyTorch's.

Tan and Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", 2019.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from moa_jax.models import batch_axis
from moa_jax.models.convolution import Convolution, Padding
from moa_jax.models.hyperparameters import EFFICIENTNETS, SAME, SYMMETRIC
from moa_jax.models.layers import BatchNorm, ImageHead, parameter_dtype
from moa_jax.models.types import Dtype

EPSILON = 1e-3
STEM_WIDTH, TOP_WIDTH = 32, 1280

# Blocks, kernel, stride of the first block, expansion, channels; as in b0.
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)


class BlockShape(NamedTuple):
    """Place and shape of one block; expansion 1 stands for a depthwise separable one."""

    stage: int
    number: int
    size: int
    stride: int
    expansion: int
    features: int


def scaled_width(channels: int, factor: float) -> int:
    """Returns the channels times the factor as a multiple of 8, not more than a tenth below it."""
    wanted = channels * factor
    rounded = max(8, int(wanted + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * wanted else rounded


def block_shapes(variant: str) -> Iterator[BlockShape]:
    """Yields the blocks of a variant from the image to the top."""
    width, depth = EFFICIENTNETS[variant]
    for stage, (repeats, size, stride, expansion, channels) in enumerate(STAGES):
        for index in range(math.ceil(repeats * depth)):
            yield BlockShape(
                stage,
                index,
                size,
                stride if index == 0 else 1,
                expansion,
                scaled_width(channels, width),
            )


def fan_out_normal(groups: int = 1) -> nn.initializers.Initializer:
    """Returns the normal initialiser of variance 2 / (places of the kernel * outputs / groups)."""
    return nn.initializers.variance_scaling(2.0 * groups, "fan_out", "normal")


def pads(padding: str, size: int) -> Padding:
    """Returns what `convolve` takes as its padding for a kernel of this size."""
    return (size - 1) // 2 if padding == SYMMETRIC else padding


@jax.custom_vjp
def swish(x: jax.Array) -> jax.Array:
    """Returns x * sigmoid(x) and keeps nothing but x for the backward pass.

    `jax.checkpoint` keeps as little, but puts barriers around what it computes again, across which
    XLA fuses nothing.
    """
    return nn.swish(x)


def _swish_and_input(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    return nn.swish(x), x


def _swish_cotangent(x: jax.Array, cotangent: jax.Array) -> tuple[jax.Array]:
    return jax.vjp(nn.swish, x)[1](cotangent)


swish.defvjp(_swish_and_input, _swish_cotangent)


def drop_connect(
    branch: jax.Array, rate: float, key: jax.Array, axis_name: str | None = None
) -> jax.Array:
    """Returns the branch [rows, ...] without whole rows, of the share `rate`; the rest grows."""
    keep = 1 - rate
    rows = batch_axis.num_rows(branch.shape[0], axis_name)
    draw = jax.random.uniform(key, (rows,) + (1,) * (branch.ndim - 1))
    draw = batch_axis.part(draw, axis_name)
    return branch / keep * jnp.floor(keep + draw).astype(branch.dtype)


class SqueezeExcite(nn.Module):
    """Scales channels by a gate in (0, 1) that sees the mean of the image.

    Attributes:
      hidden: width between both layers of the gate.
      dtype: compute dtype; None for that of input and variables.
    """

    hidden: int
    dtype: Dtype | None = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        layer = functools.partial(
            Convolution,
            kernel_init=fan_out_normal(),
            bias_init=nn.initializers.zeros,
            dtype=self.dtype,
        )
        gate = jnp.mean(x, (1, 2), parameter_dtype(x), keepdims=True)
        gate = swish(layer(self.hidden, name="conv_reduce")(gate))
        gate = layer(x.shape[-1], name="conv_expand")(gate)
        return x * nn.sigmoid(gate.astype(parameter_dtype(x))).astype(x.dtype)


class MBConv(nn.Module):
    """Inverted residual block, or with expansion 1 a depthwise separable one.

    Attributes:
      shape: size, stride, expansion and outputs.
      drop_rate: share of rows whose branch is left out in training; 0 draws no random numbers.
      dtype: compute dtype; None for that of input and variables.
      axis_name: as in `BatchNorm`.
      train, padding, epsilon: as in `EfficientNet`.
    """

    shape: BlockShape
    drop_rate: float
    dtype: Dtype | None
    axis_name: str | None
    train: bool
    padding: str = SAME
    epsilon: float = EPSILON

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array | None) -> jax.Array:
        shape, shortcut, inputs = self.shape, x, x.shape[-1]
        channels = inputs * shape.expansion

        def convolve(features: int, name: str, **options) -> Convolution:
            init = fan_out_normal(options.get("groups", 1))
            return Convolution(features, init, dtype=self.dtype, name=name, **options)

        norms = iter(("bn1", "bn2", "bn3"))

        def normalise(x: jax.Array) -> jax.Array:
            norm = BatchNorm(
                epsilon=self.epsilon, dtype=self.dtype, axis_name=self.axis_name, name=next(norms)
            )
            return norm(x, mask, self.train)

        if shape.expansion > 1:
            x = swish(normalise(convolve(channels, "conv_pw")(x)))
        depthwise = convolve(
            channels,
            "conv_dw",
            size=shape.size,
            stride=shape.stride,
            padding=pads(self.padding, shape.size),
            groups=channels,
        )
        x = swish(normalise(depthwise(x)))
        # The gate is a quarter as wide as the block's input, rounded half up.
        x = SqueezeExcite(max(1, (inputs + 2) // 4), self.dtype, name="se")(x)
        last = "conv_pwl" if shape.expansion > 1 else "conv_pw"
        x = normalise(convolve(shape.features, last)(x))
        if shape.number == 0:
            return x
        if self.train and self.drop_rate > 0:
            x = drop_connect(x, self.drop_rate, self.make_rng("dropout"), self.axis_name)
        return x + shortcut


class EfficientNet(nn.Module):
    """EfficientNet b0 to b7 with a head of two layers.

    Intermediates: `stem`, `stage0` to `stage6`, `top` and `pooled`.

    Attributes:
      variant: one of `EFFICIENTNETS`.
      num_outputs: number of targets.
      head_width: width of the head's hidden layer.
      drop_rate: dropout before the head; 0 draws no random numbers.
      drop_connect_rate: block i of n, counted from 0, drops its branch at i / n times this rate.
      dtype: compute dtype, such as bfloat16; None for that of input and variables. Parameters,
        statistics, pooled features and logits stay in float32 or wider.
      remat: keep only the inputs of blocks for the backward pass and compute the rest again.
      axis_name: mapped axis over which the rows of one batch are spread, if they are.
      padding: `SAME` as in TensorFlow, with more zeros behind than before where a stride needs an
        odd number; `symmetric` as in PyTorch.
      epsilon: added to the variances of the normalisation; 1e-3 and 1e-5 in these.
    """

    variant: str
    num_outputs: int = 206
    head_width: int = 512
    drop_rate: float = 0.3
    drop_connect_rate: float = 0.2
    dtype: Dtype | None = None
    remat: bool = False
    axis_name: str | None = None
    padding: str = SAME
    epsilon: float = EPSILON

    @nn.compact
    def __call__(
        self, images: jax.Array, mask: jax.Array | None = None, train: bool = False
    ) -> jax.Array:
        """Returns logits [rows, num_outputs] of images [rows, height, width, channels].

        Args:
          images: the images, of any size.
          mask: [rows], true for real rows; only training statistics look at it.
          train: normalise with batch statistics (collection `batch_stats` must be mutable), drop
            out and drop branches (rng `dropout`).
        """
        width, _ = EFFICIENTNETS[self.variant]
        result_dtype = parameter_dtype(images)

        def convolve(features: int, name: str, **options) -> Convolution:
            return Convolution(features, fan_out_normal(), dtype=self.dtype, name=name, **options)

        def normalise(x: jax.Array, name: str) -> jax.Array:
            norm = BatchNorm(
                epsilon=self.epsilon, dtype=self.dtype, axis_name=self.axis_name, name=name
            )
            return norm(x, mask, train)

        stem = convolve(
            scaled_width(STEM_WIDTH, width),
            "conv_stem",
            size=3,
            stride=2,
            padding=pads(self.padding, 3),
        )
        x = swish(normalise(stem(images), "bn1"))
        self.sow("intermediates", "stem", x)

        block = nn.remat(MBConv) if self.remat else MBConv
        shapes = list(block_shapes(self.variant))
        for number, shape in enumerate(shapes):
            if shape.number == 0 and shape.stage > 0:
                self.sow("intermediates", f"stage{shape.stage - 1}", x)
            rate = self.drop_connect_rate * number / len(shapes)
            name = f"stage{shape.stage}_block{shape.number}"
            of_block = block(
                shape,
                rate,
                self.dtype,
                self.axis_name,
                train,
                self.padding,
                self.epsilon,
                name=name,
            )
            x = of_block(x, mask)
        self.sow("intermediates", f"stage{shapes[-1].stage}", x)

        top = convolve(scaled_width(TOP_WIDTH, width), "conv_head")
        x = swish(normalise(top(x), "bn2"))
        self.sow("intermediates", "top", x)
        pooled = jnp.mean(x, (1, 2), result_dtype)
        self.sow("intermediates", "pooled", pooled)
        head = ImageHead(
            self.head_width, self.num_outputs, self.drop_rate, self.axis_name, name="head"
        )
        return head(pooled, train)
