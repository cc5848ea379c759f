"""torchvision's names of an EfficientNet's arrays -> those of timm."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

# The first block alone has its convolution of single channels at this place.
_FIRST = re.compile(r"(.*?)1\.0\.block\.0\.0\.weight")
_BLOCK = re.compile(r"(\d+)\.(\d+)\.block\.(\d+)\.(\w+)\.(\w+)")
# The stem and the top.
_ENDS = {"0.0": "conv_stem", "0.1": "bn1", "8.0": "conv_head", "8.1": "bn2"}
# Layers of a block in order, by whether the block widens its input first.
_LAYERS = {
    False: ("conv_dw", "bn1", "conv_pw", "bn2"),
    True: ("conv_pw", "bn1", "conv_dw", "bn2", "conv_pwl", "bn3"),
}
_SQUEEZE = {"fc1": "conv_reduce", "fc2": "conv_expand"}


def prefix(names: Mapping[str, Any]) -> str | None:
    """Returns what stands before every name of torchvision's layers; None for other networks.

    >>> prefix({"features.0.0.weight": 0, "features.1.0.block.0.0.weight": 0})
    'features.'
    """
    found = (_FIRST.fullmatch(name) for name in names)
    return next((match[1] for match in found if match), None)


def renamed(arrays: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the arrays of the layers under timm's names; what is beside them is left out.

    A name that no layer has keeps itself, to be told of.

    Args:
      arrays: by torchvision's names, of which `prefix` knows one.
    """
    start = prefix(arrays)
    assert start is not None
    return dict(_renamed(arrays, start))


def _renamed(arrays: Mapping[str, Any], start: str) -> Iterator[tuple[str, Any]]:
    for name, array in arrays.items():
        if not name.startswith(start):
            continue
        inner = name.removeprefix(start)
        if match := _BLOCK.fullmatch(inner):
            stage, index, place, layer, leaf = match.groups()
            # Blocks of the first stage do not widen.
            found = _layer(int(place), layer, widens=int(stage) > 1)
            yield f"blocks.{int(stage) - 1}.{index}.{found}.{leaf}", array
            continue
        place, _, leaf = inner.rpartition(".")
        yield (f"{_ENDS[place]}.{leaf}" if place in _ENDS else name), array


def _layer(place: int, layer: str, widens: bool) -> str:
    """timm's name of a layer of a block: places 0, 1, 2 hold pairs, and one of them the squeeze."""
    names, squeeze = _LAYERS[widens], 2 if widens else 1
    if place == squeeze:
        return f"se.{_SQUEEZE.get(layer, layer)}"
    pair = names[2 * (place - (place > squeeze)) :][:2]
    return pair[int(layer)] if layer in ("0", "1") and pair else f"block.{place}.{layer}"
