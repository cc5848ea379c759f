"""What a source says it is: published names of networks, and those that share their shapes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from moa_jax.errors import UserError
from moa_jax.models.hyperparameters import EFFICIENTNET_KINDS, RESNESTS

TORCH = "torch_"
# Networks of equal names and shapes which compute something else.
_TWINS = {
    "resnest50": "resnest50_fast_2s1x64d",
    "resnest50_fast_2s1x64d": "resnest50",
}
_EFFICIENTNET = re.compile(r"(?<![a-z0-9])(tf_|torch_)?efficientnet_?(b[0-7])a?(?![a-z0-9])")
_ABLATION = re.compile(r"(?<![a-z0-9])resnest50(?:_fast|d)?_(\d)s(\d)x(\d+)d(?![a-z0-9])")
_RESNEST = re.compile(r"(?<![a-z0-9])resnest(\d+)[de]?(?![a-z0-9])")
# Of EfficientNet-PyTorch and of Google, both converted from TensorFlow's.
_CONVERTED = re.compile(
    r"(?:adv-efficientnet-(b[0-7])|(?<![a-z0-9])efficientnet-(b[0-7])-[0-9a-f]{8}(?![a-z0-9])"
    r"|google(?:/|--)efficientnet-(b[0-7]))"
)
# Entries that trainers write the network's name in.
_ENTRY = re.compile(
    r"name|(arch|architecture|architectures|(base_)?model|net|network|backbone|encoder)"
    r"(_(name|arch|architecture|type|id))?"
)
# Sections of a trainer's checkpoint that say how it was run, and of what.
_SECTION = re.compile(
    r"(hyper_parameters|hparams|params|args|opt|options|config|cfg|settings|meta|metadata)"
    r"|(default|pretrained|model|train|training|net|network)_(cfg|config|args|kwargs|params)"
)
_LEVELS = 3


def named(text: str) -> str | None:
    """Returns the network that a published name stands for; None if it names none.

    timm and torchvision call the networks of PyTorch's padding `efficientnet_b3`, and those of
    TensorFlow's, which are called so here, `tf_efficientnet_b3`.

    >>> named("timm/tf_efficientnet_b3.ns_jft_in1k")
    'efficientnet_b3'
    >>> named("efficientnet_b0_rwightman-7f5810bc.pth")
    'torch_efficientnet_b0'
    >>> named("resnest50d_4s2x40d.in1k"), named("best.pth")
    ('resnest50_fast_4s2x40d', None)
    """
    if match := _CONVERTED.search(text.lower()):
        return f"efficientnet_{next(filter(None, match.groups()))}"
    text = re.sub(r"[-.\s]", "_", text.lower())
    if match := _EFFICIENTNET.search(text):
        return f"{'' if match[1] == 'tf_' else TORCH}efficientnet_{match[2]}"
    if match := _ABLATION.search(text):
        return "resnest50_fast_{}s{}x{}d".format(*match.groups())
    if match := _RESNEST.search(text):
        return f"resnest{match[1]}"
    return None


def twin(architecture: str) -> str | None:
    """Returns the network that weights of this one would fit too, though they are not its own."""
    if architecture in EFFICIENTNET_KINDS:
        other = architecture.removeprefix(TORCH)
        return other if other != architecture else f"{TORCH}{architecture}"
    return _TWINS.get(architecture)


def described(architecture: str) -> str:
    """Returns what tells a network from its twin, and how others call it."""
    if architecture not in EFFICIENTNET_KINDS:
        return architecture
    kind = EFFICIENTNET_KINDS[architecture]
    plain = architecture.removeprefix(TORCH)
    publisher = f"{plain} of timm and torchvision" if plain != architecture else f"tf_{plain}"
    return f"{architecture}, {kind['padding']} padding, epsilon {kind['epsilon']:g}: {publisher}"


def of_path(path: Path) -> Iterator[tuple[str, str]]:
    """Yields where a file's names tell something, and what: its own, its hub folder's, a
    `config.json` beside it."""
    yield "its name", path.name
    for parent in path.absolute().parents:
        if parent.name.startswith("models--"):
            yield "its folder", parent.name
    try:
        config = json.loads((path.parent / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return
    if isinstance(config, Mapping):
        yield from of_entries(config, "config.json: ")


def of_entries(entries: Mapping[str, Any], where: str = "") -> Iterator[tuple[str, str]]:
    """Yields the entries of a trainer, or of a configuration, that name a network.

    Sections of settings are looked into, three levels deep; lists may hold several names.
    """
    yield from _of_entries(entries, where, _LEVELS)


def _of_entries(entries: Mapping[str, Any], where: str, levels: int) -> Iterator[tuple[str, str]]:
    for name, value in entries.items():
        if not isinstance(name, str):
            continue
        names_network = is_entry(name)
        for found in value if isinstance(value, list | tuple) else [value]:
            if isinstance(found, str):
                if names_network:
                    yield f"{where}its entry {name}", found
                continue
            if not names_network and not _SECTION.fullmatch(name):
                continue
            inner = found if isinstance(found, Mapping) else getattr(found, "__dict__", None)
            if isinstance(inner, Mapping) and levels > 0:
                yield from _of_entries(inner, f"{where}{name}: ", levels - 1)


def is_entry(name: str) -> bool:
    """Tells entries that name a network from notes, whose text may mention one."""
    return _ENTRY.fullmatch(name) is not None


def check(path: Path, architecture: str, told: Iterable[tuple[str, str]]) -> bool:
    """Returns whether anything tells that a file is of a network.

    Args:
      path: for the message.
      architecture: the network that is asked for.
      told: where, and what.

    Raises:
      UserError: something tells of another network.
    """
    certain = False
    for where, text in told:
        found = named(text)
        if found is not None and found != architecture:
            known = found in EFFICIENTNET_KINDS or found in RESNESTS
            raise UserError(
                f"{path}: expected weights of {described(architecture)}; found those of "
                f"{described(found) if known else found}, as {where} {text!r} says"
            )
        certain |= found == architecture
    return certain
