"""Types of activations: in which one image networks compute, where that is left to the machine."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from moa_jax.config import RunConfig
from moa_jax.store.workdir import Workdir

if TYPE_CHECKING:
    import jax

# CUDA's compute capability of the first GPUs whose units multiply bfloat16.
FIRST_CAPABILITY = (8, 0)


def multiplies_bfloat16(device: jax.Device) -> bool:
    """Tells whether a device has units for bfloat16: TPUs, and NVIDIA's GPUs since the A100."""
    if device.platform == "tpu":
        return True
    # Other vendors' GPUs have names in its place.
    capability = str(getattr(device, "compute_capability", "")).split(".")
    if device.platform != "gpu" or not all(part.isdecimal() for part in capability):
        return False
    return tuple(map(int, capability)) >= FIRST_CAPABILITY


def settled(config: RunConfig, workdir: Workdir) -> RunConfig:
    """Returns the configuration with the types of activations that it leaves to the machine.

    What a work folder was made with counts, on whatever devices it is read or gone on with; for a
    new one it is bfloat16 where all devices in use multiply it and nobody asks for float64, else
    float32, which stands for the run's precision.

    Raises:
      UserError: `config.json` is damaged; see `Devices.available`.
    """
    if not _left_open(config):
        return config
    from moa_jax.training.parallel import Devices

    made_with = {}
    if os.path.lexists(workdir.path / "config.json"):
        made_with = workdir.read()["config"]["models"]
    known = {name: model["dtype"] for name, model in made_with.items() if "dtype" in model}
    devices = Devices.available(config.parallel.strategy).devices
    return of(config, all(map(multiplies_bfloat16, devices)), known)


def of(config: RunConfig, bfloat16: bool, known: Mapping[str, str] | None = None) -> RunConfig:
    """Returns the configuration with types for devices that multiply bfloat16, or do not.

    Args:
      config: the run.
      bfloat16: whether they do.
      known: types that are decided already, by model.
    """
    chosen = "bfloat16" if bfloat16 and config.precision == "float32" else "float32"
    types = {name: (known or {}).get(name, chosen) for name in _left_open(config)}
    models = {
        name: dataclasses.replace(model, dtype=types[name]) if name in types else model
        for name, model in config.models.items()
    }
    return dataclasses.replace(config, models=models)


def _left_open(config: RunConfig) -> list[str]:
    return [n for n, model in config.models.items() if getattr(model, "dtype", "") == "auto"]
