"""The grid of damages: what may be damaged of a work folder, one trial, and the table of many."""

from __future__ import annotations

import collections
import dataclasses
import re
import shutil
from collections.abc import Iterable, Sequence

import numpy as np
from trust.damages import KINDS, damage
from trust.finished_run import FinishedRun, Snapshot, differing

# Damages whose place is drawn, and those of which there is one.
PLACED = ("changed", "shortened", "truncated", "deleted")
WHOLE = tuple(kind for kind in KINDS if kind not in (*PLACED, "flipped", "unreadable")) + (
    "of another run",
    "of another artefact",
)
# Artefacts by the names of their files, the first that fits.
ARTEFACTS = {
    "checkpoint": r".*/checkpoints/.*",
    "configuration": r"config\.json",
    "environment": r"environment\.json",
    "completion": r"completed\.json",
    "log": r"log\.txt",
    "losses": r"metrics\.jsonl",
    "lock": r"\.lock",
    "submission": r"submission\.csv",
    "manifest": r"\w+/manifest\.json",
    "blend weights": r"blend/weights\.json",
    "blend predictions": r"blend/oof\.parquet",
    "blend targets": r"blend/targets\.csv",
    "blend analysis": r"blend/analysis\.json",
    "blend answers": r"blend/(answers\.json|predictions\.(csv|parquet))",
    "blend scores": r"blend/(mechanisms|reliability)\.csv",
    "blend attributions": r"blend/attributions\.parquet",
    "report": r"blend/report\.html",
    "inference record": r"infer/.*\.json",
    "inference predictions": r"infer/.*\.parquet",
    "inference submission": r"infer/.*\.csv",
    "feature map, arrays": r"feature_maps/.*\.npz",
    "feature map, description": r"feature_maps/.*\.json",
    "transforms, arrays": r".*/features/.*\.npz",
    "transforms, description": r".*/features/.*\.json",
    "network": r".*/members/.*",
    "nested predictions": r".*/nested\.npz",
    "baseline": r".*/baseline\.npz",
    "stage metrics": r"\w+/\w+/metrics\.json",
    "stage predictions": r"\w+/\w+/oof\.parquet",
    "stage test predictions": r"\w+/\w+/test\.parquet",
    "folds": r".*/folds\.csv",
    "model metrics": r"\w+/metrics\.json",
    "model predictions": r"\w+/oof\.parquet",
    "model test predictions": r"\w+/test(_spread)?\.parquet",
}
# Of this no repair is known: the folder is bound by it.
UNREPAIRABLE = "configuration"
# What is written anew without being read. A folder or a link in its place is somebody's and stays.
WRITTEN = (
    "environment", "completion", "log", "losses", "lock", "submission", "report", "blend ",
    "inference ",
)  # fmt: skip
NO_FILES = ("linked", "dangling", "looping", "folder", "pipe")


def artefact(name: str) -> str:
    """Returns what a file of a work folder is; a KeyError if nobody has thought of it."""
    for known, pattern in ARTEFACTS.items():
        if re.fullmatch(pattern, name):
            return known
    raise KeyError(name)


@dataclasses.dataclass(frozen=True)
class Damage:
    """A kind of damage to a file of the folder."""

    kind: str
    name: str

    def do(self, folder, snapshot: Snapshot, other: Snapshot, rng: np.random.Generator) -> None:
        path = folder / self.name
        if self.kind == "of another run":
            # Where no run has a file of this name, any other of its kind.
            alike = [n for n in other.files if artefact(n) == artefact(self.name)]
            name = self.name if self.name in other.files else alike[rng.integers(len(alike))]
            path.write_bytes(other.files[name])
        elif self.kind == "of another artefact":
            alike = [n for n in snapshot.files if n.rsplit(".")[-1] == self.name.rsplit(".")[-1]]
            others = [n for n in alike if n != self.name] or [n for n in snapshot.files]
            path.write_bytes(snapshot.files[others[rng.integers(len(others))]])
        elif snapshot.files[self.name] or self.kind not in PLACED[:3]:
            damage(self.kind, path, rng)

    def may_stay(self) -> bool:
        """Tells whether --repair may end in a line, for it knows no way."""
        known = artefact(self.name)
        return known == UNREPAIRABLE or (self.kind in NO_FILES and known.startswith(WRITTEN))


@dataclasses.dataclass(frozen=True)
class ChangedByte(Damage):
    """Another byte at a place, which wraps around; `difference` is what it is XORed with."""

    place: int
    difference: int

    def do(self, folder, snapshot: Snapshot, other: Snapshot, rng: np.random.Generator) -> None:
        content = bytearray((folder / self.name).read_bytes())
        content[self.place % len(content)] ^= self.difference
        (folder / self.name).write_bytes(content)


@dataclasses.dataclass(frozen=True)
class Trial:
    """A run over a damaged folder.

    Attributes:
      damages: what was damaged.
      mode: one of `MODES`.
      result: `same` (the undamaged run's bytes), `line`, `traceback`, `hang`, `silent` (others),
        `unrepaired` or `leftover` (temporary files).
      text: the line, the traceback or the files that differ.
    """

    damages: Sequence[Damage]
    mode: str
    result: str
    text: str

    @property
    def is_good(self) -> bool:
        return self.result in ("same", "line")


@dataclasses.dataclass
class Grid:
    """Trials on copies of a work folder.

    Attributes:
      run: the command.
      snapshot: the folder that is damaged.
      wanted: the undamaged, finished run.
      other: a run of another configuration.
    """

    run: FinishedRun
    snapshot: Snapshot
    wanted: Snapshot
    other: Snapshot

    def names(self, known: str) -> list[str]:
        """Returns the files of the folder that are an artefact."""
        return sorted(name for name in self.snapshot.files if artefact(name) == known)

    def trial(self, damages: Sequence[Damage], mode: str, rng: np.random.Generator) -> Trial:
        folder = self.snapshot.restore()
        for one in damages:
            one.do(folder, self.snapshot, self.other, rng)
        if mode == "infer" and not any(one.name.startswith("infer/") for one in damages):
            shutil.rmtree(folder / "infer", ignore_errors=True)
        outcome = self.run.command(folder, "all" if mode == "repair" else mode, mode == "repair")
        result, text = outcome.kind, outcome.text
        if result == "done":
            changed = differing(self.wanted, folder, mode, {one.name for one in damages})
            result, text = ("silent" if changed else "same"), ", ".join(changed)
        elif result == "line" and mode == "repair" and not any(d.may_stay() for d in damages):
            result = "unrepaired"
        if left := [path for path in folder.rglob("*.tmp-*")]:
            result, text = "leftover", f"{left}: {text}"
        return Trial(damages, mode, result, text)

    def of_artefact(
        self,
        known: str,
        places: int,
        modes: Sequence[str],
        rng: np.random.Generator,
        whole: Sequence[str] = WHOLE,
    ) -> Iterable[Trial]:
        """Yields trials of one damage each: so many at drawn places, and one of each other kind.

        Drawn ones go through the modes in turn, those that train seldom; the others through all.
        """
        names, often = self.names(known), [*modes, *modes[:3], *modes[:3]]
        for number in range(places):
            drawn = Damage(PLACED[number // len(often) % len(PLACED)], str(rng.choice(names)))
            yield self.trial([drawn], often[number % len(often)], rng)
        for kind in whole:
            for mode in modes:
                yield self.trial([Damage(kind, str(rng.choice(names)))], mode, rng)

    def pairs(self, count: int, modes: Sequence[str], rng: np.random.Generator) -> Iterable[Trial]:
        """Yields trials of two damages at once, in two files."""
        names = sorted(self.snapshot.files)
        for number in range(count):
            two = rng.choice(names, 2, replace=False)
            damages = [Damage(str(rng.choice([*PLACED, *WHOLE])), str(name)) for name in two]
            yield self.trial(damages, modes[number % len(modes)], rng)


def table(trials: Iterable[Trial]) -> str:
    """Returns how many trials of each artefact and damage ended how."""
    results = ("same", "line", "traceback", "silent", "hang", "unrepaired", "leftover")
    counts: dict[tuple[str, str], collections.Counter[str]] = {}
    for trial in trials:
        what = " + ".join(artefact(one.name) for one in trial.damages)
        kind = trial.damages[0].kind
        row = ("two at once", "") if len(trial.damages) > 1 else (what, kind)
        counts.setdefault(row, collections.Counter())[trial.result] += 1
    lines = [f"{'artefact':26}{'damage':22}" + "".join(f"{name:>11}" for name in results)]
    for (what, kind), found in counts.items():
        lines.append(f"{what:26}{kind:22}" + "".join(f"{found[name]:>11}" for name in results))
    total = sum(counts.values(), collections.Counter())
    lines.append(f"{'all':26}{'':22}" + "".join(f"{total[name]:>11}" for name in results))
    return "\n".join(lines)
