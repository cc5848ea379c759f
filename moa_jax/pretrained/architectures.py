"""Image networks whose published weights are read, by name."""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from moa_jax.errors import UserError
from moa_jax.models.hyperparameters import AUTO, EFFICIENTNET_KINDS, HUB, RESNESTS
from moa_jax.models.types import Variables
from moa_jax.pretrained import claims, published, torchvision
from moa_jax.pretrained.efficientnet import efficientnet_from_torch
from moa_jax.pretrained.hub import download
from moa_jax.pretrained.resnest import resnest_from_torch
from moa_jax.pretrained.weight_files import SAFETENSORS, Pretrained, read, read_state_dict
from moa_jax.store import files

# The largest variants of torchvision have PyTorch's padding and TensorFlow's epsilon.
_MIXED = tuple(f"{claims.TORCH}efficientnet_{variant}" for variant in ("b5", "b6", "b7"))


def converters() -> dict[str, Callable[[Mapping[str, Any]], Variables]]:
    """Returns for every network the function that turns its state dict into variables."""
    found: dict[str, Callable[[Mapping[str, Any]], Variables]] = {}
    for name, kind in EFFICIENTNET_KINDS.items():
        found[name] = functools.partial(efficientnet_from_torch, variant=kind["variant"])
    for name, options in RESNESTS.items():
        found[name] = functools.partial(resnest_from_torch, **options)
    return found


def convert(architecture: str, path: str | Path, source: str, key: str | None = None) -> Pretrained:
    """Returns the variables of a file that PyTorch or safetensors wrote.

    Whoever calls this says what the file is of; what the file, its name and its source tell must
    not contradict it.

    Args:
      architecture: a name of `converters`.
      path: the file.
      source: what to record as its name.
      key: which of several state dicts in the file, see `read_state_dict`.

    Raises:
      UserError: the file is not read, holds another network, or tells of one.
    """
    return _converted(architecture, Path(path), source, key)[0]


def _converted(
    architecture: str, path: Path, source: str, key: str | None = None
) -> tuple[Pretrained, bool]:
    """Returns the variables, and whether anything tells that they are of this network."""
    # What the name says is told first: reading may need a library.
    certain = claims.check(path, architecture, claims.of_path(path))
    certain |= claims.check(path, architecture, [("its source", source)])
    arrays = read_state_dict(path) if key is None else read_state_dict(path, key)
    certain |= claims.check(path, architecture, getattr(arrays, "told", ()))
    published.check(path, source)
    if torchvision.prefix(arrays) is not None:
        certain |= _is_torchvision(architecture, path)
    try:
        variables = converters()[architecture](arrays)
    except UserError as error:
        raise UserError(f"{path}: not {architecture}: {error}") from None
    # Nobody but the solution has its head, which stands on TensorFlow's kind.
    certain |= "head" in variables["params"] and architecture.startswith("efficientnet_")
    return Pretrained(variables, architecture, source, files.sha256(path)), certain


def _is_torchvision(architecture: str, path: Path) -> bool:
    if architecture in EFFICIENTNET_KINDS and not architecture.startswith(claims.TORCH):
        raise UserError(
            f"{path}: expected weights of {claims.described(architecture)}; found torchvision's "
            f"names, whose network is {claims.described(claims.TORCH + architecture)}"
        )
    if architecture in _MIXED:
        raise UserError(
            f"{path}: expected weights of {claims.described(architecture)}; found torchvision's "
            "names, whose b5 to b7 have epsilon 0.001, as no network here"
        )
    return True


def check_source(architecture: str, source: str) -> None:
    """Checks what can be told of a source without a file, a network or a library.

    Raises:
      UserError: nothing is published for the network.
    """
    if source == HUB:
        _hub_repository(architecture)
    elif source == AUTO:
        published.url(architecture)


def _check_reader(architecture: str) -> None:
    if importlib.util.find_spec("torch") is None:
        other = ""
        if architecture in EFFICIENTNET_KINDS:
            other = "pretrained=hub, which needs moa-jax[hub] alone; or "
        raise UserError(
            f"pretrained=auto: reading {published.url(architecture)} needs PyTorch: pip install "
            f"'moa-jax[torch]'; or {other}pretrained=FILE, a file of python -m moa_jax.pretrained; "
            "or pretrained=none for random weights"
        )


def _hub_repository(architecture: str) -> str:
    if architecture not in EFFICIENTNET_KINDS or architecture.startswith(claims.TORCH):
        raise UserError(
            f"pretrained: expected a file for {architecture}, found hub, which lacks it"
            + (
                f": its authors publish it at {published.URLS[architecture]}"
                if architecture in published.URLS
                else ""
            )
        )
    return f"timm/tf_{architecture}.ns_jft_in1k"


def find(architecture: str, source: str) -> Pretrained:
    """Returns the weights that a configuration names.

    Args:
      architecture: a name of `converters`.
      source: `auto` for the published file that the original starts from, see `published`; `hub`
        for the same weights in the repository of timm on the Hugging Face hub; or a file that
        PyTorch, safetensors or `weight_files.write` wrote.

    Raises:
      UserError: the weights are not published or out of reach; or the file is not read, holds
        another network, or may as well be of another one of the same shapes.
    """
    check_source(architecture, source)
    if source == AUTO:
        _check_reader(architecture)
        path = published.fetch(architecture)
        return convert(architecture, path, path.name)
    if source == HUB:
        repository, name = _hub_repository(architecture), f"model{SAFETENSORS}"
        return convert(architecture, download(repository, name), f"{repository}/{name}")
    path = Path(source)
    if path.suffix != ".npz":
        found, certain = _converted(architecture, path, path.name)
        other = claims.twin(architecture)
        if not certain and other is not None:
            raise UserError(
                f"{path}: does not tell of which network it is, ({claims.described(architecture)}) "
                f"or ({claims.described(other)}), which have the same shapes: state it by python "
                f"-m moa_jax.pretrained --arch={architecture} or {other}, and name its output here"
            )
        return found
    found = read(path)
    if found.architecture != architecture:
        raise UserError(f"{path}: expected {architecture}, found {found.architecture}")
    return found
