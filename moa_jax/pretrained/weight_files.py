"""Files of weights: other frameworks' are read without executing them, ours are npz."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from moa_jax.errors import UserError, first_line
from moa_jax.models.hyperparameters import EFFICIENTNET_KINDS, SYMMETRIC, TORCH_EPSILON
from moa_jax.models.types import Variables
from moa_jax.pretrained import claims, contents, tensors, wrappers
from moa_jax.pretrained.wrappers import StateDict
from moa_jax.store import arrays

PICKLED = (".pth", ".pt", ".bin", ".ckpt")
SAFETENSORS = ".safetensors"
_KIND = "converted weights"


class Pretrained(NamedTuple):
    """Variables of a network and where they come from.

    Attributes:
      variables: `{params, batch_stats}`, without a head if the source has another one.
      architecture: name of the network, such as `efficientnet_b3`.
      source: name of the file that was converted.
      source_sha256: its SHA-256 as hexadecimal digits.
    """

    variables: Variables
    architecture: str
    source: str
    source_sha256: str


def read_state_dict(path: str | Path, key: str | None = None) -> StateDict:
    """Returns the arrays of a `.safetensors` file, or of one that PyTorch wrote, by their names.

    Files of PyTorch are read with its unpickler for weights, which executes nothing. A trainer's
    checkpoint may hold them in a mapping of its own. Types that numpy lacks, as bfloat16, are
    widened to float32, which has all their values.

    Args:
      path: the file.
      key: which of several state dicts, see `wrappers.opened`.

    Raises:
      UserError: the file is missing, damaged, of another kind, holds more than weights or several
        state dicts, or the library that reads it is not installed.
    """
    path = Path(path)
    suffix = path.suffix
    # model_best.pth.tar is no archive: some trainers call their files so.
    if suffix == ".tar" and Path(path.stem).suffix in PICKLED:
        suffix = Path(path.stem).suffix
    if suffix not in (SAFETENSORS, *PICKLED):
        expected = ", ".join((SAFETENSORS, *PICKLED, f"{PICKLED[0]}.tar"))
        raise UserError(f"{path}: expected one of {expected}, found {path.suffix or 'no suffix'!r}")
    if not path.is_file():
        raise UserError(f"{path}: not found")
    kind = contents.of_file(path)
    if kind not in (None, contents.SAFETENSORS, contents.PICKLED):
        raise UserError(f"{path}: expected weights of PyTorch or safetensors, found {kind}")
    if kind is None:
        kind = contents.SAFETENSORS if suffix == SAFETENSORS else contents.PICKLED
    # Some are named like the other kind.
    reader = _read_safetensors if kind == contents.SAFETENSORS else _read_pickled
    return reader(path, key)


def _read_safetensors(path: Path, key: str | None) -> StateDict:
    try:
        import safetensors.numpy
    except ImportError:
        raise UserError(
            f"{path}: reading it needs safetensors: pip install 'moa-jax[safetensors]'"
        ) from None
    try:
        loaded = safetensors.numpy.load_file(path)
        with safetensors.safe_open(path, "np") as opened_file:
            metadata = opened_file.metadata() or {}
    except AttributeError as error:
        raise UserError(
            f"{path}: expected numbers of a type that numpy has, found {error.name}: save them as "
            "float32"
        ) from None
    # KeyError and TypeError: a floating type that numpy does not have.
    except (safetensors.SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise _damaged(path, "tensors", error) from None
    arrays = wrappers.opened(path, loaded, lambda value: isinstance(value, np.ndarray), key)
    found = StateDict({name: tensors.array(name, array) for name, array in arrays.items()})
    found.told = tuple(
        (f"its metadata {name}", text) for name, text in metadata.items() if claims.is_entry(name)
    )
    return found


def _read_pickled(path: Path, key: str | None) -> StateDict:
    try:
        import torch
    except ImportError:
        raise UserError(f"{path}: reading it needs PyTorch: pip install 'moa-jax[torch]'") from None
    try:
        with torch.serialization.safe_globals(contents.harmless()):
            # By its content: the library goes by the names of some files.
            with open(path, "rb") as file:
                loaded = torch.load(file, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, ValueError, EOFError, KeyError) as error:
        raise _damaged(path, "PyTorch's state dict", error) from None
    # The unpickler's own error, whose text advises to execute what is in the file.
    except Exception as error:
        foreign = re.search(r"GLOBAL (\w[\w.]*)", str(error))
        more = f"an object of {foreign[1]}" if foreign else "a damaged file or more than weights"
        raise UserError(
            f"{path}: expected a state dict alone, as of model.state_dict(), found {more}, which "
            "is not read"
        ) from None
    found = StateDict()
    for name, tensor in wrappers.opened(path, loaded, _is_tensor, key).items():
        if not _is_tensor(tensor):
            raise UserError(f"{path}: {name}: expected a tensor, found {type(tensor).__name__}")
        try:
            found[name] = tensors.array(name, tensor)
        except UserError as error:
            raise UserError(f"{path}: {error}") from None
    found.told = tuple(wrappers.told(loaded))
    return found


def _is_tensor(value: Any) -> bool:
    """Tells tensors and arrays from scores that are numpy's numbers."""
    return tensors.is_tensor(value) and not isinstance(value, np.generic)


def write(path: str | Path, pretrained: Pretrained) -> None:
    """Writes arrays under their path in the network, such as `params/conv_stem/kernel`."""
    record = pretrained._asdict()
    variables = record.pop("variables")
    arrays.write(path, _KIND, variables, record | _details(pretrained.architecture))


def read(path: str | Path) -> Pretrained:
    """Reads what `write` wrote; nothing in the file is executed.

    Raises:
      UserError: the file is missing or damaged, or it was converted for a network that had
        another padding or epsilon, or without a record of these.
    """
    variables, record = arrays.read(path, _KIND)
    found = Pretrained(variables, **{name: record[name] for name in Pretrained._fields[1:]})
    expected = _details(found.architecture)
    told = {name: record.get(name) for name in expected}
    if told != expected:
        raise UserError(
            f"{path}: {found.architecture}: expected {expected}, found {told}; convert "
            f"{found.source} again"
        )
    return found


def _details(architecture: str) -> dict[str, Any]:
    """Returns what shapes do not tell of a network."""
    kind = EFFICIENTNET_KINDS.get(architecture, {"padding": SYMMETRIC, "epsilon": TORCH_EPSILON})
    return {"padding": kind["padding"], "epsilon": kind["epsilon"]}


def _damaged(path: str | Path, expected: str, error: Exception) -> UserError:
    return UserError(f"{path}: damaged, expected {expected}: {first_line(error)}")
