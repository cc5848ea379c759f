"""Convolution: the one place where images meet kernels, plain, grouped or one per channel."""

from __future__ import annotations

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from moa_jax.models.layers import parameter_dtype

Padding = int | str


def convolve(
    x: jax.Array, kernel: jax.Array, stride: int = 1, padding: Padding = "SAME", groups: int = 1
) -> jax.Array:
    """Returns the cross-correlation of images with kernels; every network computes it here.

    Args:
      x: [rows, height, width, inputs].
      kernel: [k, k, inputs / groups, outputs]; inputs and outputs are cut into consecutive groups.
      stride: step along height and width.
      padding: zeros on every side, or `SAME`: ceil(size / stride) outputs, an odd number of zeros
        having its larger part at the bottom and at the right, as in TensorFlow.
      groups: number of groups; as many as inputs for one kernel per channel.
    """
    if kernel.shape[:2] == (1, 1) and stride == 1:
        # A matrix product has a fast backward pass on every platform, also in groups.
        split = x.reshape(*x.shape[:-1], groups, x.shape[-1] // groups)
        kernel = kernel.reshape(kernel.shape[2], groups, -1)
        return jnp.einsum("nhwgi,igo->nhwgo", split, kernel).reshape(*x.shape[:-1], -1)
    if groups == x.shape[-1] == kernel.shape[-1]:
        return _per_channel(x, kernel, stride, padding)
    return _plain(x, kernel, stride, padding, groups)


def _plain(x: jax.Array, kernel: jax.Array, stride: int, padding: Padding, groups: int):
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        window_strides=(stride, stride),
        padding=padding if isinstance(padding, str) else [(padding, padding)] * 2,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )


def _shifted_sum(x: jax.Array, kernel: jax.Array, stride: int, padding: Padding) -> jax.Array:
    """One kernel per channel as a sum over the kernel's places.

    XLA for CPU may expand such a kernel to a dense one, a thousand times the work.
    """
    if isinstance(padding, str):
        pads = jax.lax.padtype_to_pads(x.shape[1:3], kernel.shape[:2], (stride, stride), padding)
    else:
        pads = [(padding, padding)] * 2
    x = jnp.pad(x, [(0, 0), *pads, (0, 0)])
    size = kernel.shape[0]
    height, width = ((length - size) // stride * stride + 1 for length in x.shape[1:3])
    return sum(
        x[:, row : row + height : stride, column : column + width : stride] * kernel[row, column, 0]
        for row in range(size)
        for column in range(size)
    )


def _channel_count_groups(x, kernel, stride, padding):
    return _plain(x, kernel, stride, padding, x.shape[-1])


# The derivative is chosen by platform too: differentiating the choice itself would keep what the
# other platform's derivative needs.
@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _per_channel(x: jax.Array, kernel: jax.Array, stride: int, padding: Padding) -> jax.Array:
    return jax.lax.platform_dependent(
        x,
        kernel,
        cpu=functools.partial(_shifted_sum, stride=stride, padding=padding),
        default=functools.partial(_channel_count_groups, stride=stride, padding=padding),
    )


def _per_channel_forward(x, kernel, stride, padding):
    return _per_channel(x, kernel, stride, padding), (x, kernel)


def _per_channel_backward(stride, padding, inputs, cotangent):
    def backward(function):
        def pull(x, kernel, cotangent):
            f = functools.partial(function, stride=stride, padding=padding)
            return jax.vjp(f, x, kernel)[1](cotangent)

        return pull

    return jax.lax.platform_dependent(
        *inputs, cotangent, cpu=backward(_shifted_sum), default=backward(_channel_count_groups)
    )


_per_channel.defvjp(_per_channel_forward, _per_channel_backward)


class Convolution(nn.Module):
    """Convolution with square kernels, without a bias unless one is initialised.

    Attributes:
      features: number of outputs.
      kernel_init: initialiser of the kernel.
      size: height and width of the kernel.
      stride, padding, groups: as in `convolve`.
      bias_init: initialiser of the bias; None for no bias.
      dtype: compute dtype; None for that of input and variables.
    """

    features: int
    kernel_init: nn.initializers.Initializer
    size: int = 1
    stride: int = 1
    padding: Padding = "SAME"
    groups: int = 1
    bias_init: nn.initializers.Initializer | None = None
    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns [rows, height, width, features] of [rows, height, width, inputs]."""
        dtype = parameter_dtype(x)
        shape = (self.size, self.size, x.shape[-1] // self.groups, self.features)
        kernel = self.param("kernel", self.kernel_init, shape, dtype)
        x, kernel = nn.dtypes.promote_dtype(x, kernel, dtype=self.dtype)
        y = convolve(x, kernel, self.stride, self.padding, self.groups)
        if self.bias_init is None:
            return y
        bias = self.param("bias", self.bias_init, (self.features,), dtype)
        return y + bias.astype(y.dtype)
