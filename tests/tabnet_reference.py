"""The TabNet references: three small networks, their weights by rule, and their arrays.

The weights are not stored: each tensor is drawn from a generator seeded with its name. The
programs in reference/make_tabnet*.py, which wrote the arrays with pytorch-tabnet, draw the same.
"""

import re
import zlib
from pathlib import Path

import numpy as np

FOLDER = Path(__file__).parent / "reference"
LIBRARY = {
    "n_independent": 2,
    "epsilon": 1e-15,
    "virtual_batch_size": 128,
    "momentum": 0.02,
}
RECIPES = {
    # The winner's network, with 64 columns in and 20 targets out instead of 1497 and 206.
    "win": {
        **LIBRARY,
        **{"input_dim": 64, "output_dim": 20, "n_d": 32, "n_a": 32, "n_steps": 1, "gamma": 1.3},
        **{"cat_idxs": [0, 1], "cat_dims": [3, 2], "cat_emb_dim": [1, 1]},
        **{"n_shared": 2, "mask_type": "entmax"},
    },
    # Three steps, the other mask, n_d different from n_a, no categorical column.
    "hard": {
        **LIBRARY,
        **{"input_dim": 64, "output_dim": 20, "n_d": 16, "n_a": 8, "n_steps": 3, "gamma": 1.5},
        **{"cat_idxs": [], "cat_dims": [], "cat_emb_dim": 1},
        **{"n_shared": 2, "mask_type": "sparsemax"},
    },
    # No shared layers, embeddings of several columns in the middle, two steps.
    "alt": {
        **LIBRARY,
        **{"input_dim": 30, "output_dim": 6, "n_d": 8, "n_a": 12, "n_steps": 2, "gamma": 1.2},
        **{"cat_idxs": [3, 7], "cat_dims": [4, 5], "cat_emb_dim": [3, 2]},
        **{"n_shared": 0, "mask_type": "entmax"},
    },
}
LAMBDA_SPARSE = {"win": 0.0, "hard": 1e-3, "alt": 1e-2}
# The winner clips at 1; smaller here, so that some of the five steps clip and some do not.
CLIP = {"win": 0.096, "hard": 0.5, "alt": 0.155}
SMOOTHING, RATE, WEIGHT_DECAY = 0.001, 2e-2, 1e-5
# The rows [start, end) of the five optimiser steps.
WINDOWS = ((0, 300), (0, 257), (43, 300), (0, 130), (0, 300))

_SHARED = re.compile(
    r"^tabnet\.(?:initial_splitter|feat_transformers\.\d+)\.shared\."
    r"(?:shared_layers\.(\d+)|glu_layers\.(\d+)\.fc)\.weight$"
)


def canonical(name):
    """All names of one shared matrix map to one name."""
    found = _SHARED.match(name)
    if not found:
        return name
    layer = found.group(1) or found.group(2)
    return f"tabnet.initial_splitter.shared.shared_layers.{layer}.weight"


def _normal(seed, shape):
    return np.random.default_rng(zlib.crc32(seed.encode())).standard_normal(shape)


def tabnet_value(name, shape):
    """The value of a TabNet's tensor."""
    name = canonical(name)
    if name.endswith("num_batches_tracked"):
        return np.zeros(shape, np.int64)
    z = _normal(name, shape)
    if name.endswith("running_var"):
        return 1 + np.abs(0.1 * z)
    if name.endswith("running_mean"):
        return 0.1 * z
    if "initial_bn" in name or ".bn.bn." in name:
        return 1 + 0.1 * z if name.endswith("weight") else 0.1 * z
    if name.startswith("embedder."):
        return z
    if "att_transformers" in name:
        return 0.15 * z
    return (0.1 if name == "tabnet.final_mapping.weight" else 0.3) * z


def stage1_value(name, shape):
    """The value of a tensor of the network of two dense layers."""
    if name.endswith("num_batches_tracked"):
        return np.zeros(shape, np.int64)
    z = _normal(f"stage1/{name}", shape)
    if name.endswith("running_var"):
        return 1 + np.abs(0.1 * z)
    if name.endswith("weight_g"):
        return 1 + np.abs(z)
    if name.startswith("batch_norm") and name.endswith(".weight"):
        return 1 + 0.1 * z
    return (0.3 if name.endswith("weight_v") else 0.1) * z


def load(name):
    """The arrays of reference/tabnet_<name>.npz."""
    with np.load(FOLDER / f"tabnet_{name}.npz", allow_pickle=False) as stored:
        return dict(stored)


def part(arrays, prefix):
    """The arrays below a prefix."""
    return {k[len(prefix) + 1 :]: v for k, v in arrays.items() if k.startswith(f"{prefix}/")}


def key_table(name):
    """The state dict of the library: name -> (shape, canonical name), in its order."""
    table = {}
    for line in (FOLDER / f"tabnet_{name}_keys.txt").read_text().splitlines():
        key, shape, alias = line.split("\t")
        shape = () if shape == "scalar" else tuple(map(int, shape.split("x")))
        table[key] = (shape, key if alias == "=" else alias.removeprefix("alias of "))
    return table


def state_dict(name):
    """The library's state dict with the rule's weights."""
    return {key: tabnet_value(key, shape) for key, (shape, _) in key_table(name).items()}
