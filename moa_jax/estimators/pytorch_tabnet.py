"""What users of pytorch-tabnet bring: its names of arguments, and models that it has saved."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from moa_jax.errors import UserError
from moa_jax.models.hyperparameters import TABNET
from moa_jax.models.tabnet import TabNet
from moa_jax.models.types import Variables
from moa_jax.pretrained import read_tabnet_zip, tabnet_from_torch

_OF_ESTIMATOR = "give it to the estimator: {name}"
_NONE = "there is none"
# Arguments of pytorch-tabnet 2.0 to 4.1 that have another name or place here, or none.
THEIRS = {
    "seed": "it is called random_state",
    "optimizer_fn": "the optimiser is Adam; it has learning_rate and weight_decay",
    "optimizer_params": "they are called learning_rate and weight_decay",
    "scheduler_fn": f"{_NONE}: the learning rate is constant",
    "scheduler_params": f"{_NONE}: the learning rate is constant",
    "verbose": f"{_NONE}: history_ has the losses of all epochs",
    "device_name": "JAX chooses; the environment variable JAX_PLATFORMS says otherwise",
    "input_dim": "fit counts the columns of X",
    "output_dim": "fit counts what y holds",
    "epsilon": "it is that of pytorch-tabnet, 1e-15",
    "grouped_features": _NONE,
    "n_indep_decoder": "it is called n_independent_decoder, of TabNetPretrainer",
    "n_shared_decoder": "it is one of TabNetPretrainer",
    "pretraining_ratio": _OF_ESTIMATOR.format(name="TabNetPretrainer(pretraining_ratio=...)"),
    "X_train": "it is called X",
    "y_train": "it is called y",
    "weights": "it is called sample_weight; TabNetClassifier has class_weight beside it",
    "eval_name": f"{_NONE}: pairs of eval_set have no names",
    "eval_metric": f"{_NONE}: the loss of the last pair of eval_set decides",
    "loss_fn": f"{_NONE}: the estimator says the loss",
    "num_workers": _NONE,
    "drop_last": f"{_NONE}: every row is used in every epoch",
    "callbacks": _NONE,
    "pin_memory": _NONE,
    "augmentations": _NONE,
    "compute_importance": f"{_NONE}: feature_importances_ are always there",
    **{
        name: _OF_ESTIMATOR.format(name=f"{name}=...")
        for name in ("max_epochs", "patience", "batch_size", "virtual_batch_size", "warm_start")
    },
}
_OLD_ENCODER = ("encoder.", "decoder.")
_ATTENTION = ".att_transformers.0.fc.weight"
_HEAD = "tabnet.final_mapping.weight"


def told(method: Callable) -> Callable:
    """Returns a method that tells what an argument of pytorch-tabnet's is called here."""
    own = inspect.signature(method).parameters

    @functools.wraps(method)
    def checked(self, *args, **given):
        for name in given:
            if name in THEIRS and name not in own:
                where = type(self).__name__ + ("" if method.__name__ == "__init__" else ".fit")
                raise TypeError(f"{where}: no argument {name!r}: {THEIRS[name]}")
        return method(self, *args, **given)

    return checked


class SavedModel(NamedTuple):
    """A model that pytorch-tabnet has saved.

    Attributes:
      parameters: those of its hyperparameters that an estimator has too.
      network: the network.
      variables: its weights.
      num_columns: number of columns of X.
      classes: the classes by their numbers; None where the file does not tell them.
      is_regressor: whether it says that it has none; None where it says nothing.
    """

    parameters: dict[str, Any]
    network: TabNet
    variables: Variables
    num_columns: int
    classes: list[Any] | None
    is_regressor: bool | None


def read(path: str | Path) -> SavedModel:
    """Reads the archive that `save_model` of pytorch-tabnet 2.0 to 4.1 wrote.

    Raises:
      UserError: it is missing, damaged or of another kind of model, PyTorch is missing, or its
        attention is that of groups of columns.
    """
    arrays, stored = read_tabnet_zip(path)
    # From 3.0 on the arguments stand beside the names of the classes.
    given = stored.get("init_params", stored) if isinstance(stored, Mapping) else stored
    if not isinstance(given, Mapping):
        raise UserError(f"{path}: expected the parameters of a model, found {type(given).__name__}")
    if any(name.startswith(_OLD_ENCODER) for name in arrays):
        raise UserError(f"{path}: expected a classifier or a regressor, found a pretrained encoder")
    if any(".multi_task_mappings." in name for name in arrays):
        raise UserError(f"{path}: expected a model of one task, found one of several")
    attention = [array for name, array in arrays.items() if name.endswith(_ATTENTION)]
    if attention and len(attention[0]) != _initial(arrays).size:
        raise UserError(
            f"{path}: expected attention to each column of an embedding, found one weight for all "
            "of them, as pytorch-tabnet has it from 4.0 on: read are cat_emb_dim of 1, or 3.1"
        )
    if given.get("grouped_features"):
        raise UserError(f"{path}: expected attention to columns, found grouped_features")
    try:
        parameters = {name: given[name] for name in TABNET if name in given}
        parameters |= _embeddings(arrays, given)
        model = TabNet(arrays[_HEAD].shape[0], **parameters)
        # Whatever it was kept in, an estimator computes in float32.
        variables = jax.tree.map(
            lambda array: array.astype(np.float32), tabnet_from_torch(arrays, model)
        )
        widths = _widths(arrays)
        num_columns = _initial(arrays).size - sum(width - 1 for _, width in widths)
        if "lambda_sparse" in given:
            parameters["lambda_sparse"] = given["lambda_sparse"]
        # There 0 is no limit, too.
        parameters["clip_value"] = given.get("clip_value", 1) or None
        mapper = stored.get("class_attrs", {}).get("preds_mapper")
        tells = "class_attrs" in stored
        classes = None if mapper is None else [mapper[str(i)] for i in range(len(mapper))]
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{path}: expected a model of pytorch-tabnet 2.0 to 4.1: {error!r}"
        ) from None
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    if classes is not None and len(classes) != model.output_dim:
        raise UserError(f"{path}: expected {model.output_dim} classes, found {len(classes)}")
    return SavedModel(
        parameters, model, variables, num_columns, classes, mapper is None if tells else None
    )


def _widths(arrays: Mapping[str, np.ndarray]) -> list[tuple[int, int]]:
    """Categories and width of each embedding, in the order of their columns."""
    found: list[tuple[int, int]] = []
    while (name := f"embedder.embeddings.{len(found)}.weight") in arrays:
        categories, width = arrays[name].shape
        found.append((categories, width))
    return found


def _embeddings(arrays: Mapping[str, np.ndarray], given: Mapping[str, Any]) -> dict[str, Any]:
    """Later versions save the sizes in the order of the columns beside columns in any order."""
    columns, tables = sorted(given.get("cat_idxs") or ()), _widths(arrays)
    if not columns:
        return {}
    return {
        "cat_idxs": tuple(columns),
        "cat_dims": tuple(categories for categories, _ in tables),
        "cat_emb_dim": tuple(width for _, width in tables),
    }


def _initial(arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    found = [array for name, array in arrays.items() if name.endswith(".initial_bn.weight")]
    return found[0] if found else np.zeros(0)
