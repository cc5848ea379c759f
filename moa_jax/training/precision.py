"""Precision in which accelerators multiply matrices of float32."""

from __future__ import annotations

import contextlib

import jax


def in_precision(precision: str | None) -> contextlib.AbstractContextManager:
    """Traces products within in a precision that `Forward.precision` names; None leaves JAX's."""
    if precision is None:
        return contextlib.nullcontext()
    return jax.default_matmul_precision(precision)
