"""Context: where and how a recipe runs."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from moa_jax.config import ParallelConfig, RunConfig
from moa_jax.data.dataset import Levels
from moa_jax.store import processes
from moa_jax.store.manifest import Manifest
from moa_jax.store.workdir import Workdir
from moa_jax.training import layout
from moa_jax.training.layout import Wave
from moa_jax.training.parallel import Devices
from moa_jax.training.progress import MetricsLog
from moa_jax.training.stage import Forward, Stage


@dataclasses.dataclass(frozen=True)
class Context:
    """Where and how a recipe runs.

    Attributes:
      model: the model's name in the configuration; its folder in the work folder.
      workdir: the work folder.
      devices: devices and strategy.
      config: the run's configuration.
      log: metrics of training; None in inference.
    """

    model: str
    workdir: Workdir
    devices: Devices
    config: RunConfig
    log: MetricsLog | None = None

    @property
    def folder(self) -> Path:
        return self.workdir.path / self.model

    @property
    def manifest(self) -> Manifest:
        return self.workdir.manifest(self.model)

    def is_whole(self, path: Path) -> bool:
        """Tells whether a file is as this model, or another that shares it, has listed it.

        Raises:
          UserError: a manifest is damaged, or that of another run or model.
        """
        names = (self.model, *self.config.models)
        return any(self.workdir.manifest(name).is_whole(path) for name in names)

    @property
    def parallel(self) -> ParallelConfig:
        return self.config.parallel

    @property
    def levels(self) -> Levels:
        return Levels.of(self.config.data, self.config.treatment.encoding)

    def devices_for(self, forward: Forward, num_members: int) -> Devices:
        """Returns the devices as that many members of a network use them."""
        count = len(self.devices.devices)
        return self.devices.sharing_batches(
            layout.devices_each(forward, num_members, count, self.parallel)
        )

    def devices_of(self, stage: Stage, num_members: int) -> Devices:
        """Returns the devices as that many members of a stage use them to train and to predict.

        The work folder keeps whether those that can share rows do: XLA may round differently what
        is computed of shared ones, and on devices of another size the run goes on as it began.
        """
        devices, parallel = self.devices_for(stage.forward, num_members), self.parallel
        count = len(devices.devices)
        if not layout.may_share_rows(stage, count, parallel):
            return devices
        # Machines of several processes may differ, and all must exchange rows or none.
        memory = processes.said_by_first(devices.memory_bytes())
        spread = layout.shares_rows(stage, count, memory, parallel)
        asked = parallel.rows != "auto"
        found = "sharded" if spread else "replicated"
        rows = self.workdir.resolved(f"{stage.name}: rows", found, asked)
        return devices.sharing_rows() if rows == "sharded" else devices

    def cut(self, stage: Stage) -> tuple[int, tuple[Wave, ...]]:
        """Returns how many members of a stage train at once, and the waves where these differ.

        What the work folder keeps are the members of each group, so that on other devices a
        checkpoint is of the same ones; how many devices each has is found anew.
        """
        count, parallel = len(self.devices.devices), self.parallel
        at_once = layout.members_at_once(stage, count, self.devices.memory_bytes(), parallel)
        asked = parallel.members_at_once > 0
        at_once = self.workdir.resolved(f"{stage.name}: members_at_once", at_once, asked)
        waves = layout.waves(stage, at_once, count, parallel)
        most = at_once if isinstance(at_once, int) else max(at_once)
        return min(most, len(stage.members)), waves
