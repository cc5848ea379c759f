"""Types that the networks' functions share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax.typing

# What JAX takes for the type of an array's elements.
Dtype = jax.typing.DTypeLike
# Arrays in any nesting of tuples, lists and dicts, which JAX calls a pytree.
ArrayTree = Any
# A network's arrays by collection (`params`, `batch_stats`), then by the names of its modules.
Variables = Mapping[str, Mapping[str, Any]]
# Where one of them is: `('params', 'dense1', 'bias')`.
VariablePath = tuple[str, ...]
