"""ResNeSt: residual networks whose groups are split and weighed by attention.

Zhang et al., "ResNeSt: Split-Attention Networks", 2020. The variant "d" of the residual network
underneath: a stem of three convolutions, and shortcuts that average before they convolve.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from moa_jax.models.convolution import Convolution
from moa_jax.models.layers import BatchNorm, ImageHead, parameter_dtype, torch_uniform
from moa_jax.models.rectified import max_pool, relu
from moa_jax.models.types import Dtype

_BASE_WIDTH, _EXPANSION = 64, 4
# Channels per input channel of the attention's narrow layer, and its least width.
_REDUCTION, _LEAST_WIDTH = 4, 32

fan_out_normal = nn.initializers.variance_scaling(2.0, "fan_out", "normal")


def _conv(features: int, dtype: Dtype | None, name: str, size: int = 1, **options) -> Convolution:
    """A convolution that keeps the size of the image, unless it has a stride."""
    return Convolution(
        features, fan_out_normal, size, padding=size // 2, dtype=dtype, name=name, **options
    )


def smoothing_pool(x: jax.Array, stride: int) -> jax.Array:
    """Returns averages over 3 x 3 places; zeros around the image count as places."""
    window, strides = (1, 3, 3, 1), (1, stride, stride, 1)
    pads = ((0, 0), (1, 1), (1, 1), (0, 0))
    return _window_sum(x, window, strides, pads) / 9


def shortcut_pool(x: jax.Array, stride: int) -> jax.Array:
    """Returns averages over tiles; those cut off by the border average over what they have."""
    lengths = x.shape[1:3]
    pads = ((0, 0), *((0, -length % stride) for length in lengths), (0, 0))
    total = _window_sum(x, (1, stride, stride, 1), (1, stride, stride, 1), pads)
    rows, columns = (
        np.minimum(stride, length - np.arange(0, length, stride)) for length in lengths
    )
    return total / jnp.asarray(np.outer(rows, columns)[:, :, None], x.dtype)


def _window_sum(x: jax.Array, window, strides, pads) -> jax.Array:
    return jax.lax.reduce_window(x, np.zeros((), x.dtype), jax.lax.add, window, strides, pads)


def radix_softmax(x: jax.Array, radix: int, cardinality: int) -> jax.Array:
    """Returns weights of the splits, which sum to one over the radix; for radix 1 gates in (0, 1).

    Args:
      x: [rows, cardinality * radix * channels], cardinality-major.

    Returns:
      [rows, radix, cardinality * channels], with radix-major channels as the splits have them.
    """
    if radix == 1:
        return nn.sigmoid(x)[:, None]
    x = x.reshape(x.shape[0], cardinality, radix, -1)
    return nn.softmax(x.swapaxes(1, 2), axis=1).reshape(x.shape[0], radix, -1)


class SplitAttention(nn.Module):
    """Grouped convolution into `radix` splits, and their sum as the attention weighs them.

    Attributes:
      radix: number of splits.
      cardinality: number of groups within a split.
      dtype: compute dtype; None for that of input and variables.
      axis_name: as in `BatchNorm`.
      train: as in `ResNeSt`.
    """

    radix: int
    cardinality: int
    dtype: Dtype | None
    axis_name: str | None
    train: bool

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array | None) -> jax.Array:
        channels, dtype = x.shape[-1], parameter_dtype(x)

        def normalise(x: jax.Array, name: str) -> jax.Array:
            norm = BatchNorm(dtype=self.dtype, axis_name=self.axis_name, name=name)
            return norm(x, mask, self.train)

        def gate_layer(x: jax.Array, features: int, name: str) -> jax.Array:
            bias_init = torch_uniform(x.shape[-1] // self.cardinality)
            options = {"groups": self.cardinality, "bias_init": bias_init}
            return _conv(features, self.dtype, name, **options)(x)

        convolve = _conv(
            channels * self.radix,
            self.dtype,
            "conv",
            size=3,
            groups=self.cardinality * self.radix,
        )
        x = nn.relu(normalise(convolve(x), "bn0"))
        splits = jnp.split(x, self.radix, axis=-1)
        means = [jnp.mean(split, (1, 2), dtype, keepdims=True) for split in splits]
        gate = functools.reduce(jnp.add, means)
        hidden = max(channels * self.radix // _REDUCTION, _LEAST_WIDTH)
        gate = nn.relu(normalise(gate_layer(gate, hidden, "fc1"), "bn1"))
        gate = gate_layer(gate, channels * self.radix, "fc2")
        weights = radix_softmax(gate[:, 0, 0].astype(dtype), self.radix, self.cardinality)
        weights = weights.astype(x.dtype)[:, :, None, None]
        return functools.reduce(jnp.add, [s * weights[:, i] for i, s in enumerate(splits)])


class Bottleneck(nn.Module):
    """Residual block of three convolutions, the middle one with split attention.

    Attributes:
      planes: a quarter of its outputs.
      radix, cardinality, bottleneck_width, avd_first, dtype, axis_name: as in `ResNeSt`.
      stride: step from input to output.
      projects: whether the shortcut is convolved.
      train: as in `ResNeSt`.
    """

    planes: int
    radix: int
    cardinality: int
    bottleneck_width: int
    avd_first: bool
    dtype: Dtype | None
    axis_name: str | None
    stride: int
    projects: bool
    train: bool

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array | None) -> jax.Array:
        def normalise(x: jax.Array, name: str) -> jax.Array:
            norm = BatchNorm(dtype=self.dtype, axis_name=self.axis_name, name=name)
            return norm(x, mask, self.train)

        outputs = self.planes * _EXPANSION
        shortcut = x
        if self.projects:
            shortcut = _conv(outputs, self.dtype, "downsample_conv")(shortcut_pool(x, self.stride))
            shortcut = normalise(shortcut, "downsample_bn")
        width = int(self.planes * (self.bottleneck_width / _BASE_WIDTH)) * self.cardinality
        x = nn.relu(normalise(_conv(width, self.dtype, "conv1")(x), "bn1"))
        if self.stride > 1 and self.avd_first:
            x = smoothing_pool(x, self.stride)
        attention = SplitAttention(
            self.radix, self.cardinality, self.dtype, self.axis_name, self.train, name="conv2"
        )
        x = attention(x, mask)
        if self.stride > 1 and not self.avd_first:
            x = smoothing_pool(x, self.stride)
        x = normalise(_conv(outputs, self.dtype, "conv3")(x), "bn3")
        return relu(x + shortcut)


class ResNeSt(nn.Module):
    """ResNeSt with a head of two layers; by default the body of resnest50_fast_2s2x40d.

    Intermediates: `stem`, `maxpool`, `stage1` to `stage4` and `pooled`.

    Attributes:
      layers: number of blocks in each stage.
      radix: splits of the attention; 1 gates the channels by a sigmoid.
      cardinality: groups within a split.
      bottleneck_width: width of a group, of 64.
      stem_width: channels of the first two convolutions; the third has twice as many.
      avd_first: blocks with a stride average before the split attention, else behind it.
      num_outputs: number of targets.
      head_width: width of the head's hidden layer.
      drop_rate: dropout before the head; 0 draws no random numbers.
      dtype: compute dtype, such as bfloat16; None for that of input and variables. Parameters,
        statistics, pooled features and logits stay in float32 or wider.
      remat: keep only the inputs of blocks for the backward pass and compute the rest again.
      axis_name: mapped axis over which the rows of one batch are spread, if they are.
    """

    layers: Sequence[int] = (3, 4, 6, 3)
    radix: int = 2
    cardinality: int = 2
    bottleneck_width: int = 40
    stem_width: int = 32
    avd_first: bool = True
    num_outputs: int = 206
    head_width: int = 512
    drop_rate: float = 0.0
    dtype: Dtype | None = None
    remat: bool = False
    axis_name: str | None = None

    @nn.compact
    def __call__(
        self, images: jax.Array, mask: jax.Array | None = None, train: bool = False
    ) -> jax.Array:
        """Returns logits [rows, num_outputs] of images [rows, height, width, channels].

        Args:
          images: the images, of any size.
          mask: [rows], true for real rows; only training statistics look at it.
          train: normalise with batch statistics (collection `batch_stats` must be mutable) and
            drop out (rng `dropout`).
        """
        result_dtype = parameter_dtype(images)
        x = images
        for number, (factor, stride) in enumerate(((1, 2), (1, 1), (2, 1)), 1):
            name = f"stem_conv{number}"
            x = _conv(self.stem_width * factor, self.dtype, name, size=3, stride=stride)(x)
            norm = BatchNorm(dtype=self.dtype, axis_name=self.axis_name, name=f"stem_bn{number}")
            x = nn.relu(norm(x, mask, train))
        self.sow("intermediates", "stem", x)
        x = max_pool(x)
        self.sow("intermediates", "maxpool", x)

        bottleneck = nn.remat(Bottleneck) if self.remat else Bottleneck
        for stage, blocks in enumerate(self.layers, 1):
            for index in range(blocks):
                block = bottleneck(
                    _BASE_WIDTH * 2 ** (stage - 1),
                    self.radix,
                    self.cardinality,
                    self.bottleneck_width,
                    self.avd_first,
                    self.dtype,
                    self.axis_name,
                    stride=2 if index == 0 and stage > 1 else 1,
                    projects=index == 0,
                    train=train,
                    name=f"stage{stage}_block{index}",
                )
                x = block(x, mask)
            self.sow("intermediates", f"stage{stage}", x)

        pooled = jnp.mean(x, (1, 2), result_dtype)
        self.sow("intermediates", "pooled", pooled)
        head = ImageHead(
            self.head_width, self.num_outputs, self.drop_rate, self.axis_name, name="head"
        )
        return head(pooled, train)
