"""Weights of other frameworks as Flax variables; names and shapes are strict."""

from moa_jax.pretrained.mlp import mlp_from_torch

__all__ = ["mlp_from_torch"]
