"""Layers with the arithmetic and the initialisation of the frameworks the originals used.

Layers compute in the dtype of their input and variables, so that a float64 input gives a float64
network; a lower compute dtype can be given. Parameters and statistics are float32 or wider.
"""

from __future__ import annotations

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from moa_jax.models import batch_axis
from moa_jax.models.types import Dtype


def parameter_dtype(x: jax.Array) -> Dtype:
    """Returns the dtype of the parameters that an input of this dtype initialises."""
    return jnp.promote_types(x.dtype, jnp.float32)


def torch_uniform(fan_in: int):
    """Returns PyTorch's initialiser of a linear layer: uniform in ±1/sqrt(fan_in).

    It serves kernels and biases alike.
    """
    bound = fan_in**-0.5

    def init(key, shape, dtype):
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init


class BatchNorm(nn.Module):
    """Batch normalisation over all axes but the last, with a mask for padded rows.

    The variance is computed in two passes: columns with a mean far from zero keep their digits.

    Attributes:
      momentum: weight of the new batch in the running statistics (0.1 in PyTorch; Keras and Flax
        name its complement, 0.9 or 0.99).
      epsilon: added to the variance.
      unbiased: store the unbiased batch variance in the running variance, as PyTorch does;
        Keras stores the biased one. Normalisation itself always uses the biased one.
      dtype: dtype of the result; None for that of the input.
      axis_name: mapped axis over which the rows of one batch are spread; the statistics are those
        of the whole batch.
    """

    momentum: float = 0.1
    epsilon: float = 1e-5
    unbiased: bool = True
    dtype: Dtype | None = None
    axis_name: str | None = None

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        mask: jax.Array | None = None,
        train: bool = False,
        frozen: jax.Array | None = None,
    ) -> jax.Array:
        """Normalises [rows, ..., features].

        Args:
          x: the input.
          mask: [rows], true for real rows; padded rows do not enter the statistics.
          train: use and record the statistics of the batch; else use the running ones.
          frozen: scalar, true to use the running statistics in training too and keep them.
        """
        shape, dtype = x.shape[-1:], parameter_dtype(x)
        scale = self.param("scale", nn.initializers.ones, shape, dtype)
        bias = self.param("bias", nn.initializers.zeros, shape, dtype)
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, shape, dtype)
        running_var = self.variable("batch_stats", "var", jnp.ones, shape, dtype)
        result_dtype = self.dtype or x.dtype
        x = x.astype(scale.dtype)
        if not train:
            mean, var = running_mean.value, running_var.value
            return _normalise(x, mean, var, scale, bias, self.epsilon).astype(result_dtype)
        # Variables are initialised outside of the mapped axis.
        axis_name = None if self.is_initializing() else self.axis_name
        weight = jnp.ones(x.shape[0], x.dtype) if mask is None else mask.astype(x.dtype)
        weight = weight.reshape(-1, *[1] * (x.ndim - 1))
        momentum: float | jax.Array = self.momentum
        if frozen is None:
            result, statistics = _normalise_batch(x, weight, scale, bias, self.epsilon, axis_name)
            mean, var, count = statistics
        else:
            mean, var, count = _statistics(x, weight, axis_name, in_two_passes)
            mean = jnp.where(frozen, running_mean.value, mean)
            var = jnp.where(frozen, running_var.value, var)
            momentum = jnp.where(frozen, 0, momentum).astype(x.dtype)
            result = _normalise(x, mean, var, scale, bias, self.epsilon)
        if not self.is_initializing():
            recorded = var * count / jnp.maximum(count - 1, 1) if self.unbiased else var
            keep = 1 - momentum
            running_mean.value = keep * running_mean.value + momentum * mean
            running_var.value = keep * running_var.value + momentum * recorded
        return result.astype(result_dtype)


def _normalise(x, mean, var, scale, bias, epsilon):
    return (x - mean) * (scale * jax.lax.rsqrt(var + epsilon)) + bias


def _statistics(x, weight, axis_name, moments):
    """Returns mean, biased variance and number of places of the weighted rows, by channel.

    The `moments` of a device's own rows are taken in two passes or in one.
    """
    count = weight.sum() * (x.size // (x.shape[0] * x.shape[-1]))
    mean, squares = moments(x, weight, count)
    if axis_name is not None:
        mean, squares, count = _united(mean, squares, count, axis_name)
    return mean, squares / count, count


def in_two_passes(x: jax.Array, weight: jax.Array, count: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns mean and sum of squared deviations of the weighted rows, by channel.

    Args:
      x: [rows, ..., channels].
      weight: [rows, ...], one for real rows and zero for padded ones, with axes of length one.
      count: number of real places; there may be none on one device of several.
    """
    axes = tuple(range(x.ndim - 1))
    mean = jnp.sum(x * weight, axes) / jnp.maximum(count, 1)
    return mean, jnp.sum(jnp.square(x - mean) * weight, axes)


def in_one_pass(x: jax.Array, weight: jax.Array, count: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns what `in_two_passes` does and reads the batch once, which is what a GPU waits for.

    Deviations are taken from the mean of the first row, which is a real one where any is: their
    mean is then at most sqrt(count) standard deviations, and usually about one, so that what is
    subtracted of their squares costs few digits, wherever the mean of the channel is.
    """
    axes = tuple(range(x.ndim - 1))
    start = jnp.mean(x[0], axes[:-1])
    deviations = (x - start) * weight
    total = jnp.sum(deviations, axes)
    squares = jnp.sum(jnp.square(deviations), axes)
    shift = total / jnp.maximum(count, 1)
    return start + shift, jnp.maximum(squares - total * shift, 0)


def _by_platform(x, weight, count):
    return jax.lax.platform_dependent(x, weight, count, cpu=in_two_passes, default=in_one_pass)


def _united(mean, squares, count, axis_name):
    """Returns mean, sum of squared deviations and number of places over all devices.

    From those of each, in one exchange (Chan, Golub and LeVeque, 1979), which keeps the digits that
    two passes have.
    """
    own = jnp.concatenate([mean, squares, count[None]])
    means, squares, counts = jnp.split(
        jax.lax.all_gather(own, axis_name), [mean.size, 2 * mean.size], axis=1
    )
    count = counts.sum()
    mean = jnp.sum(counts * means, 0) / count
    return mean, jnp.sum(squares + counts * jnp.square(means - mean), 0), count


@functools.partial(jax.custom_vjp, nondiff_argnums=(4, 5))
def _normalise_batch(x, weight, scale, bias, epsilon, axis_name):
    """Returns the batch normalised by its own statistics, and these, which are constants.

    Its derivative is written out: it reads the input twice, where differentiating the formula makes
    more passes, which cost the image networks some 6 % of a step on a CPU.
    """
    mean, var, count = _statistics(x, weight, axis_name, _by_platform)
    return _normalise(x, mean, var, scale, bias, epsilon), (mean, var, count)


def _normalise_batch_forward(x, weight, scale, bias, epsilon, axis_name):
    result, statistics = _normalise_batch(x, weight, scale, bias, epsilon, axis_name)
    return (result, statistics), (x, weight, scale, statistics)


def _normalise_batch_backward(epsilon, axis_name, kept, cotangents):
    x, weight, scale, (mean, var, count) = kept
    cotangent, _ = cotangents
    axes = tuple(range(x.ndim - 1))
    inverse = jax.lax.rsqrt(var + epsilon)
    of_bias = jnp.sum(cotangent, axes)
    of_product = jnp.sum(cotangent * (x - mean), axes)
    share = weight / count
    shift, slope = batch_axis.total(jnp.stack([of_bias, of_product]), axis_name)
    common = shift + (x - mean) * (jnp.square(inverse) * slope)
    of_x = scale * inverse * (cotangent - share * common)
    return of_x, jnp.zeros_like(weight), of_product * inverse, of_bias


_normalise_batch.defvjp(_normalise_batch_forward, _normalise_batch_backward)


@jax.custom_vjp
def alone(kernel: jax.Array) -> jax.Array:
    """Returns a product's kernel, whose gradient a GPU computes by nothing but a product.

    XLA lets a GPU's product add to an array. So it would write what comes on top, the decay and
    the gradient of a norm, as arrays of the kernel's size for the product to read, where the
    optimiser, which has the kernel at hand, adds them for nothing.
    """
    return kernel


def _alone_forward(kernel):
    return kernel, None


def _alone_backward(_, cotangent):
    barrier = jax.lax.optimization_barrier
    return (jax.lax.platform_dependent(cotangent, cuda=barrier, rocm=barrier, default=lambda c: c),)


alone.defvjp(_alone_forward, _alone_backward)


class Dense(nn.Module):
    """Linear layer, by default with PyTorch's initialisation of kernel and bias.

    Attributes:
      features: width of the output.
      dtype: compute dtype; None for that of input and variables.
      kernel_init, bias_init: initialisers; None for `torch_uniform`.
    """

    features: int
    dtype: Dtype | None = None
    kernel_init: nn.initializers.Initializer | None = None
    bias_init: nn.initializers.Initializer | None = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        init, dtype = torch_uniform(x.shape[-1]), parameter_dtype(x)
        shape = (x.shape[-1], self.features)
        kernel = self.param("kernel", self.kernel_init or init, shape, dtype)
        bias = self.param("bias", self.bias_init or init, shape[1:], dtype)
        kernel = alone(kernel)
        x, kernel, bias = nn.dtypes.promote_dtype(x, kernel, bias, dtype=self.dtype)
        return x @ kernel + bias


class WeightNormDense(nn.Module):
    """Linear layer whose kernel column j is g_j v_j / |v_j| (Salimans and Kingma, 2016).

    Attributes:
      features: width of the output.
      dtype: compute dtype; None for that of input and variables.

    References:
      Salimans and Kingma (2016), Weight normalization, https://arxiv.org/abs/1602.07868.
    """

    features: int
    dtype: Dtype | None = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        init, dtype = torch_uniform(x.shape[-1]), parameter_dtype(x)
        v = self.param("v", init, (x.shape[-1], self.features), dtype)
        g = self.param("g", lambda key: jnp.linalg.norm(v, axis=0))
        bias = self.param("bias", init, (self.features,), dtype)
        gain = g / jnp.linalg.norm(v, axis=0)
        x, v, gain, bias = nn.dtypes.promote_dtype(x, alone(v), gain, bias, dtype=self.dtype)
        # Scaling the output instead of the kernel saves writing the kernel, and its gradient,
        # once more in every step.
        return (x @ v) * gain + bias


class Dropout(nn.Module):
    """Sets values to zero in training, and lets the others grow; draws from the rng `dropout`.

    Attributes:
      rate: share of the values; 0 draws no random numbers.
      axis_name: as in `BatchNorm`.
    """

    rate: float
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Returns the values [rows, ...]."""
        if not train or self.rate == 0:
            return x
        shape = (batch_axis.num_rows(x.shape[0], self.axis_name), *x.shape[1:])
        kept = jax.random.bernoulli(self.make_rng("dropout"), 1 - self.rate, shape)
        return jnp.where(batch_axis.part(kept, self.axis_name), x / (1 - self.rate), 0)


class ImageHead(nn.Module):
    """Head of the image networks: dropout, dense, ELU, dense, in full precision.

    Its kernels start uniform in ±1/sqrt(outputs of the layer), its biases at zero.

    Attributes:
      width: width of the hidden layer.
      num_outputs: number of targets.
      drop_rate: dropout on the pooled features; 0 draws no random numbers.
      axis_name: as in `BatchNorm`.
    """

    width: int
    num_outputs: int
    drop_rate: float
    axis_name: str | None = None

    @nn.compact
    def __call__(self, pooled: jax.Array, train: bool) -> jax.Array:
        """Returns logits [rows, num_outputs] of pooled features [rows, features]."""

        def dense(width: int, name: str) -> Dense:
            return Dense(width, None, torch_uniform(width), nn.initializers.zeros, name=name)

        x = Dropout(self.drop_rate, self.axis_name)(pooled, train)
        x = nn.elu(dense(self.width, "dense1")(x))
        return dense(self.num_outputs, "dense2")(x)
