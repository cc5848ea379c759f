"""Published variants of the image networks, by name; read without JAX."""

from __future__ import annotations

from typing import Any

# Factors on width and depth.
EFFICIENTNETS = {
    "b0": (1.0, 1.0),
    "b1": (1.0, 1.1),
    "b2": (1.1, 1.2),
    "b3": (1.2, 1.4),
    "b4": (1.4, 1.8),
    "b5": (1.6, 2.2),
    "b6": (1.8, 2.6),
    "b7": (2.0, 3.1),
}

# The networks that the authors published, as arguments of `ResNeSt`.
_FAST = {"layers": (3, 4, 6, 3), "stem_width": 32, "avd_first": True}
_DEEP = {"radix": 2, "cardinality": 1, "bottleneck_width": 64, "avd_first": False}
RESNESTS: dict[str, dict[str, Any]] = {
    "resnest50": {**_DEEP, "layers": (3, 4, 6, 3), "stem_width": 32},
    "resnest101": {**_DEEP, "layers": (3, 4, 23, 3), "stem_width": 64},
    "resnest200": {**_DEEP, "layers": (3, 24, 36, 3), "stem_width": 64},
    "resnest269": {**_DEEP, "layers": (3, 30, 48, 8), "stem_width": 64},
}
for _radix, _cardinality, _width in (
    (1, 1, 64),
    (2, 1, 64),
    (4, 1, 64),
    (1, 2, 40),
    (2, 2, 40),
    (4, 2, 40),
    (1, 4, 24),
):
    RESNESTS[f"resnest50_fast_{_radix}s{_cardinality}x{_width}d"] = {
        **_FAST,
        "radix": _radix,
        "cardinality": _cardinality,
        "bottleneck_width": _width,
    }
