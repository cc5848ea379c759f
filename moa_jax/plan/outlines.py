"""Outlines: the stages of a run, made without fitting anything."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from moa_jax.config import RunConfig
from moa_jax.data.dataset import Dataset
from moa_jax.engine import limits, run
from moa_jax.plan.topology import Topology
from moa_jax.recipes import notes, system
from moa_jax.recipes.context import Context
from moa_jax.recipes.host_stage import HostStage
from moa_jax.recipes.system import BuiltStage
from moa_jax.store import memory
from moa_jax.store.workdir import Workdir


def outline(
    config: RunConfig, dataset: Dataset, workdir: Workdir, target: Topology
) -> list[BuiltStage]:
    """Returns the stages of all models in the order of training, with zeros for features.

    Raises:
      UserError: the data do not suit a model's configuration.
    """
    run.check(config, dataset)
    stages = []
    for name, model in config.models.items():
        context = Context(name, workdir, target.compile_for, config)
        stages += limits.checked(system.outline(model, dataset, context), name, model)
    return stages


def nesting(config: RunConfig, stages: Sequence[BuiltStage]) -> Iterator[str]:
    """Yields what each nested chain of the stages costs."""
    for name in config.models:
        own = [built for built in stages if built.stage.name.startswith(f"{name}/")]
        for note in notes.of_nesting((built.stage.members, built.split) for built in own):
            yield f"{name}: {note}"


def on_host(stages: Sequence[BuiltStage]) -> Iterator[str]:
    """Yields what learners fit on the host, of which XLA tells nothing."""
    for stage, num_inputs, *_ in stages:
        if isinstance(stage, HostStage):
            yield (
                f"`{stage.name}`: {stage.training.learner.name} of {num_inputs:,} inputs, "
                f"{len(stage.members)} members, fitted on the host one after another in about "
                f"{memory.size(stage.num_bytes)} of memory; not in the table."
            )
