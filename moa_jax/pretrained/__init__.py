"""Weights of other frameworks as Flax variables; names and shapes are strict."""

from moa_jax.pretrained.efficientnet import efficientnet_from_torch
from moa_jax.pretrained.mlp import mlp_from_torch, two_layer_mlp_from_torch
from moa_jax.pretrained.resnest import resnest_from_torch
from moa_jax.pretrained.tabnet import read_tabnet_zip, tabnet_from_torch, tabnet_to_torch
from moa_jax.pretrained.two_heads import two_heads_from_keras

__all__ = [
    "efficientnet_from_torch",
    "mlp_from_torch",
    "read_tabnet_zip",
    "resnest_from_torch",
    "tabnet_from_torch",
    "tabnet_to_torch",
    "two_heads_from_keras",
    "two_layer_mlp_from_torch",
]
