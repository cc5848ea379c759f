"""Convolution: the one place where images meet kernels, plain, grouped or one per channel."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from moa_jax.models.layers import parameter_dtype
from moa_jax.models.types import Dtype

Padding = int | str
Pads = tuple[tuple[int, int], tuple[int, int]]


def convolve(
    x: jax.Array, kernel: jax.Array, stride: int = 1, padding: Padding = "SAME", groups: int = 1
) -> jax.Array:
    """Returns the cross-correlation of images with kernels; every network computes it here.

    Kernels of one place are matrix products. GPUs and TPUs run the library's convolution for the
    rest. On a CPU its gradients and its grouped form are many times slower than the same work put
    otherwise, so there gradients are convolutions of their own, groups become dense convolutions,
    and kernels of a single channel sums of shifted images.

    Args:
      x: [rows, height, width, inputs].
      kernel: [k, k, inputs / groups, outputs]; inputs and outputs are cut into consecutive groups.
      stride: step along height and width.
      padding: zeros on every side, or `SAME`: ceil(size / stride) outputs, an odd number of zeros
        having its larger part at the bottom and at the right, as in TensorFlow.
      groups: number of groups; as many as inputs for one kernel per channel.

    Returns:
      [rows, out_height, out_width, outputs].
    """
    if isinstance(padding, str):
        first, second = jax.lax.padtype_to_pads(
            x.shape[1:3], kernel.shape[:2], (stride, stride), padding
        )
    else:
        first = second = (padding, padding)
    pads = tuple(first), tuple(second)
    if kernel.shape[:2] == (1, 1) and stride == 1 and pads == ((0, 0), (0, 0)):
        return _pointwise(x, kernel[0, 0], groups)
    return _by_platform(x, kernel, stride, pads, groups)


def _pointwise(x: jax.Array, kernel: jax.Array, groups: int) -> jax.Array:
    """A matrix product, which has a fast backward pass on every platform, also in groups."""
    if groups == 1:
        # As a matrix of places: summing over three axes costs a transposed copy of a gradient.
        return (x.reshape(-1, x.shape[-1]) @ kernel).reshape(*x.shape[:-1], -1)
    split = x.reshape(*x.shape[:-1], groups, x.shape[-1] // groups)
    kernel = kernel.reshape(kernel.shape[0], groups, -1)
    return jnp.einsum("nhwgi,igo->nhwgo", split, kernel).reshape(*x.shape[:-1], -1)


def _library(x: jax.Array, kernel: jax.Array, stride: int, pads: Pads, groups: int) -> jax.Array:
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        window_strides=(stride, stride),
        padding=pads,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )


# The derivative is chosen by platform too: differentiating the choice itself would keep what the
# other platform's derivative needs.
@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def _by_platform(
    x: jax.Array, kernel: jax.Array, stride: int, pads: Pads, groups: int
) -> jax.Array:
    def of(convolve: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
        return functools.partial(convolve, stride=stride, pads=pads, groups=groups)

    return jax.lax.platform_dependent(
        x,
        kernel,
        cpu=of(_on_cpu),
        default=of(_library),
    )


def _by_platform_forward(x, kernel, stride, pads, groups):
    return _by_platform(x, kernel, stride, pads, groups), (x, kernel)


def _by_platform_backward(stride, pads, groups, inputs, cotangent):
    def derivative(function):
        def pull(x, kernel, cotangent):
            _, pullback = jax.vjp(lambda x, w: function(x, w, stride, pads, groups), x, kernel)
            return pullback(cotangent)

        return pull

    return jax.lax.platform_dependent(
        *inputs, cotangent, cpu=derivative(_on_cpu), default=derivative(_library)
    )


_by_platform.defvjp(_by_platform_forward, _by_platform_backward)


def _on_cpu(x, kernel, stride, pads, groups):
    if groups == 1:
        return _dense(x, kernel, stride, pads)
    if groups == x.shape[-1] == kernel.shape[-1]:
        return _per_channel(x, kernel, stride, pads)
    # XLA for CPU has a fast kernel for dense convolutions only, and for their gradients.
    pairs = zip(jnp.split(x, groups, -1), jnp.split(kernel, groups, -1), strict=True)
    return jnp.concatenate([_dense(*pair, stride, pads) for pair in pairs], -1)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _dense(x: jax.Array, kernel: jax.Array, stride: int, pads: Pads) -> jax.Array:
    return _library(x, kernel, stride, pads, 1)


def _dense_forward(x, kernel, stride, pads):
    return _dense(x, kernel, stride, pads), (x, kernel)


def _dense_backward(stride, pads, inputs, cotangent):
    """Both gradients as convolutions of images with rows first and channels last.

    XLA for CPU has fast kernels for this order alone. It brings what differentiation makes, where
    rows and channels have changed places, into this order only outside of loops and branches.
    """
    x, kernel = inputs
    size, outputs = kernel.shape[0], cotangent.shape[1:3]
    convolved = functools.partial(
        jax.lax.conv_general_dilated, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    of_x = convolved(
        cotangent,
        kernel[::-1, ::-1].swapaxes(2, 3),
        window_strides=(1, 1),
        padding=_opposite(size, x.shape[1:3], outputs, stride, pads),
        lhs_dilation=(stride, stride),
    )
    reach = [
        (low, size + (count - 1) * stride - length - low)
        for (low, _), length, count in zip(pads, x.shape[1:3], outputs, strict=True)
    ]
    of_kernel = convolved(
        x.transpose(3, 1, 2, 0),
        cotangent.transpose(1, 2, 0, 3),
        window_strides=(1, 1),
        padding=reach,
        rhs_dilation=(stride, stride),
    )
    return of_x, of_kernel.transpose(1, 2, 0, 3)


_dense.defvjp(_dense_forward, _dense_backward)


def _opposite(size, lengths, outputs, stride, pads) -> list[tuple[int, int]]:
    """Returns the zeros around a cotangent whose convolution has the lengths of the image."""
    return [
        (size - 1 - low, length + low - (count - 1) * stride - 1)
        for (low, _), length, count in zip(pads, lengths, outputs, strict=True)
    ]


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _per_channel(x: jax.Array, kernel: jax.Array, stride: int, pads: Pads) -> jax.Array:
    """One kernel per channel, as a sum over the kernel's places of the image shifted by them.

    One image at a time, which stays in the cache while it is read once for every place.
    """
    return jax.lax.map(lambda image: _shifted_sum(image, kernel, stride, pads), x)


def _per_channel_forward(x, kernel, stride, pads):
    return _per_channel(x, kernel, stride, pads), (x, kernel)


def _per_channel_backward(stride, pads, inputs, cotangent):
    """The gradient of an image is one more such sum."""
    x, kernel = inputs
    size = kernel.shape[0]
    around = _opposite(size, x.shape[1:3], cotangent.shape[1:3], stride, pads)
    # Zeros between the rows and columns of the cotangent stand for what the stride left out.
    opposite = [(*pad, stride - 1) for pad in around]

    def pull(pair):
        image, cotangent = pair
        gradient = _shifted_sum(cotangent, kernel[::-1, ::-1], 1, opposite)
        return gradient, _kernel_gradient(image, cotangent, size, stride, pads)

    gradient, of_images = jax.lax.map(pull, (x, cotangent))
    return gradient, of_images.sum(0).reshape(kernel.shape).astype(kernel.dtype)


_per_channel.defvjp(_per_channel_forward, _per_channel_backward)


def _shifted_sum(image: jax.Array, kernel: jax.Array, stride: int, pads: Sequence) -> jax.Array:
    weights = kernel.reshape(-1, kernel.shape[-1]).astype(parameter_dtype(kernel))
    size, padded = kernel.shape[0], _padded(image, pads)
    height, width = ((length - size) // stride * stride + 1 for length in padded.shape[:2])
    shifts = [
        padded[row : row + height : stride, column : column + width : stride]
        for row in range(size)
        for column in range(size)
    ]
    return functools.reduce(jnp.add, map(jnp.multiply, shifts, weights)).astype(image.dtype)


def _kernel_gradient(
    image: jax.Array, cotangent: jax.Array, size: int, stride: int, pads: Pads
) -> jax.Array:
    """The gradient of one kernel per channel by one image, [places of the kernel, channels].

    A row of the cotangent at a time, for all places: it and what it meets stay in the cache.
    """
    height, width, channels = cotangent.shape
    rows, (left, right) = pads
    right += -(image.shape[1] + left + right) % stride
    padded = _padded(image, (rows, (left, right)))
    # Columns that one place meets lie side by side.
    dealt = padded.reshape(len(padded), -1, stride, channels)
    own = cotangent.astype(parameter_dtype(cotangent))

    def add(row, sums):
        met = [
            dealt[row * stride + i][j // stride : j // stride + width, j % stride]
            for i in range(size)
            for j in range(size)
        ]
        return [one + there * own[row] for one, there in zip(sums, met, strict=True)]

    start = [jnp.zeros_like(own[0])] * size**2
    return jnp.stack(jax.lax.fori_loop(0, height, add, start)).sum(1)


def _padded(image: jax.Array, pads: Sequence) -> jax.Array:
    """An image [height, width, channels] with zeros around it, in high precision.

    Pads are zeros before and behind, and between rows or columns if a third number is given.
    """
    zeros = [(*pad, 0)[:3] for pad in (*pads, (0, 0))]
    padded = jax.lax.pad(image, jnp.zeros((), image.dtype), zeros)
    return padded.astype(parameter_dtype(image))


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
    dtype: Dtype | None = None

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
