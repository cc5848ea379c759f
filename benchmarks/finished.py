"""Finished runs that rows share, trained where this code has not done it yet.

They are on the embedded data and no longer than their files take to be there: what their networks
predict is worth nothing, how long they take is not changed by that. Work folders, and what JAX
compiled for each, lie in `runs/benchmarks` and serve the next benchmark of the same code.
"""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

from benchmarks.running import ROOT, process

PARENT = ROOT / "runs" / "benchmarks"
SHORT = {
    "quickstart": (
        "models.profile_nn.steps=(50,50)", "models.simple_nn_old.epochs=1", "explain.model=none",
    ),
    "three_stage_nn": tuple(
        f"models.three_stage_nn.{stage}.epochs=1" for stage in ("nonscored", "scored", "stacked")
    ),
    "nn_tabnet": ("models.nn_tabnet.nonscored.epochs=1", "models.nn_tabnet.scored.epochs=1"),
    "two_heads_resnet": (
        "models.two_heads_resnet.epochs=1", "models.two_heads_resnet.loop_epochs=1",
    ),
    "deepinsight_efficientnet_b3": ("models.efficientnet_b3.epochs=1",),
    "deepinsight_resnest": ("models.resnest_v1.epochs=1",),
}  # fmt: skip
# What makes runs of a size smaller. The quick one has as many networks as the full one, in three
# groups of the population's five: most of a cold run is compiling.
SMALLER: dict[str, dict[str, tuple[str, ...]]] = {
    "tiny": {
        "quickstart": (
            "models.profile_nn.members=5", "models.profile_nn.folds=2",
            "models.simple_nn_old.folds=2", "models.simple_nn_old.seeds=(0,)",
            "models.logistic.folds=2", "models.logistic.c=(0.01,)",
            "models.trees.folds=2", "models.trees.rounds=(5,)", "answers.both_scores=none",
        ),
        "two_heads_resnet": ("models.two_heads_resnet.folds=2",),
        "deepinsight_efficientnet_b3": ("models.efficientnet_b3.resolution=33",),
        "deepinsight_resnest": ("models.resnest_v1.resolution=33",),
    },
    "quick": {
        "quickstart": (
            "models.profile_nn.inputs=('standard','rank_gauss','components')",
            "models.profile_nn.widths=(128,128,256)", "models.profile_nn.depths=(1,1,2)",
            "models.logistic.c=(0.01,)", "models.trees.rounds=(20,)", "answers.both_scores=none",
        ),
    },
    "full": {},
}  # fmt: skip
# Of the quickstart, which has no smaller variant, and of all others.
VARIANTS = {"tiny": ":smoke", "quick": ":smoke", "full": ":sample"}


def flags(name: str, size: str) -> list[str]:
    """Returns the flags that describe a run of a configuration."""
    variant = "" if name == "quickstart" else VARIANTS[size]
    fields = SHORT[name] + SMALLER[size].get(name, ())
    return [f"--config={name}{variant}", *(f"--config.{field}" for field in fields)]


def launched(
    name: str, size: str, workdir: Path, cache: Path, seconds: float | None = None
) -> None:
    """Does a run to its end, with what a cache has of compiled programs; raises as `process`."""
    command = "-m", "moa_jax.launch", *flags(name, size), f"--workdir={workdir}"
    process(*command, cache=cache, seconds=seconds)


def places(name: str, size: str) -> tuple[Path, Path]:
    """Returns where the work folder of a run of this code is, and its compiled programs."""
    sources = sorted([*ROOT.glob("moa_jax/**/*.py"), *ROOT.glob("configs/*.py")])
    content = b"".join(path.read_bytes() for path in sources) + repr(flags(name, size)).encode()
    own = PARENT / f"{name}-{size}-{hashlib.sha256(content).hexdigest()[:12]}"
    return own / "run", own / "cache"


def train(name: str, size: str, seconds: float | None = None) -> None:
    """Trains a run, nothing of which was there before."""
    workdir, cache = places(name, size)
    for old in PARENT.glob(f"{name}-{size}-*"):
        shutil.rmtree(old)
    launched(name, size, workdir, cache, seconds)


def trained(name: str, size: str, seconds: float | None = None) -> Path:
    """Returns the work folder of a run, which is trained where it is not; raises as `process`."""
    workdir, cache = places(name, size)
    if not ((workdir / "submission.csv").exists() and cache.exists()):
        train(name, size, seconds)
    return workdir
