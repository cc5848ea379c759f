"""What trainers save around a state dict: the one mapping of tensors within, and what it is of."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from moa_jax.errors import UserError
from moa_jax.pretrained import claims

# Sections of a trainer's checkpoint that hold tensors, though none of a network.
_STATES = re.compile(
    r"(.*_)?(optim\w*|sched\w*|lr_sched\w*|scaler?s?|callbacks?|loops?|amp)(_\w+)?"
)


_MOST_TEXT = 200


class StateDict(dict):
    """Arrays by name.

    Attributes:
      told: where a file tells of its network, and what it says; see `claims.check`.
    """

    told: tuple[tuple[str, str], ...] = ()


def opened(
    path: Path, loaded: Any, is_tensor: Callable[[Any], bool], key: str | None
) -> Mapping[str, Any]:
    """Returns the mapping of tensors within what was loaded.

    Args:
      path: for messages.
      loaded: what a file holds.
      is_tensor: tells a tensor from other values.
      key: which mapping, where several hold tensors, such as `state_dict_ema` or `model.ema`; or
        what the names of one network among several in a single mapping begin with.

    Raises:
      UserError: there is no such mapping, or there are several and no key.
    """
    if not isinstance(loaded, Mapping):
        raise UserError(f"{path}: expected a state dict, found {type(loaded).__name__}")
    if not loaded:
        raise UserError(f"{path}: expected a state dict, found an empty mapping")
    tensors = {name: value for name, value in loaded.items() if is_tensor(value)}
    found: dict[str, Mapping[str, Any]] = {}
    # What counts, such as the best score, may stand beside a state dict as a tensor too.
    if len(tensors) < len(loaded) and not _is_network(tensors):
        found = dict(_state_dicts(loaded, is_tensor))
    if not found and tensors:
        found = {"": loaded}
    if key is not None:
        return _chosen(path, found, key)
    found = {
        name: inner
        for name, inner in found.items()
        if not name or _is_network(inner) and not any(map(_STATES.fullmatch, name.split(".")))
    }
    if not found:
        held = ", ".join(f"{name} ({type(value).__name__})" for name, value in loaded.items())
        raise UserError(
            f"{path}: expected a state dict, found none in {_shortened(held)}: save "
            "model.state_dict()"
        )
    if len(found) > 1:
        raise UserError(
            f"{path}: expected one state dict, found {', '.join(found)}: choose one by "
            f"--key={next(iter(found))} of python -m moa_jax.pretrained"
        )
    return next(iter(found.values()))


def told(loaded: Any) -> Iterator[tuple[str, str]]:
    """Yields where a trainer's checkpoint tells of its network, and what it says."""
    if isinstance(loaded, Mapping):
        yield from claims.of_entries(loaded)


def _is_network(tensors: Mapping[str, Any]) -> bool:
    """Whether any of the tensors is a layer's weight, not a score or a counter."""
    return any(
        isinstance(name, str) and ("weight" in name or "kernel" in name) and value.ndim > 0
        for name, value in tensors.items()
    )


def _shortened(text: str) -> str:
    return text if len(text) <= _MOST_TEXT else f"{text[:_MOST_TEXT]}..."


def _state_dicts(
    loaded: Mapping, is_tensor: Callable[[Any], bool], prefix: str = ""
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yields the mappings whose values are all tensors, with the keys that lead to them."""
    for name, value in loaded.items():
        # States of optimisers have the numbers of parameters as keys.
        if not isinstance(name, str) or not isinstance(value, Mapping) or not value:
            continue
        if all(isinstance(key, str) and is_tensor(v) for key, v in value.items()):
            yield f"{prefix}{name}", value
        else:
            yield from _state_dicts(value, is_tensor, f"{prefix}{name}.")


def _chosen(path: Path, found: Mapping[str, Mapping], key: str) -> Mapping[str, Any]:
    if key in found:
        return found[key]
    within = {
        name.removeprefix(f"{key}."): value
        for mapping in found.values()
        for name, value in mapping.items()
        if name.startswith(f"{key}.")
    }
    if not within:
        expected = ", ".join(filter(None, found)) or "the beginning of some names"
        raise UserError(f"{path}: --key: expected {expected}; found {key!r}")
    return within
