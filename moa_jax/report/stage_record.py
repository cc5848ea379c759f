"""Records of a stage: its members, its folds and what they score."""

from __future__ import annotations

import collections
import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence


@dataclasses.dataclass(frozen=True)
class FoldScore:
    """Out-of-fold loss of one fold, of one seed or (`seed` None) of the mean over seeds.

    In a nested stage it is the loss of a member on all the `blocks` that it left out. Where labels
    are unknown it is of those that are `known`.
    """

    seed: int | None
    fold: int
    rows: int
    score: float
    blocks: Sequence[int] = ()
    known: int | None = None

    @property
    def cells(self) -> int:
        """What the loss is a mean over, in cells or, where all are known, in rows."""
        return self.rows if self.known is None else self.known


@dataclasses.dataclass(frozen=True)
class FoldRow:
    """One line of a table of folds: a label, one entry per fold, and the whole line's entry."""

    label: str
    folds: tuple[float | None, ...]
    whole: float


@dataclasses.dataclass(frozen=True)
class MemberRecord:
    """One trained network: its seed and fold, the epoch that was kept and its validation loss."""

    seed: int | None = None
    fold: int | None = None
    epoch: int | None = None
    epochs_run: int | None = None
    loss: float | None = None
    train_rows: int | None = None
    valid_rows: int | None = None
    blocks: Sequence[int] = ()

    @property
    def place(self) -> str:
        """What it has not trained on."""
        return _left_out(self.fold, self.blocks)


@dataclasses.dataclass(frozen=True)
class StageRecord:
    """One stage of a model: its network, its members and what they cost.

    Attributes:
      name: the stage's folder.
      network: the network's class.
      inputs, outputs: its widths.
      parameters: trainable parameters of one member.
      members: every trained network.
      score: out-of-fold log loss of the mean over seeds.
      fold_scores: the same by seed and fold.
      seconds: time for `features`, `train` and `predict`.
      peak_memory_bytes: the highest use up to the end of the stage.
      groups, slots: how often and how many members were trained at once.
      devices_per_member: devices that shared the batches of each; of the first of `waves`.
      waves: where groups differ, the members of each and the devices that shared their batches.
      compilations: programs that it needed; XLA compiles what the process has not had before.
    """

    name: str
    network: str | None = None
    inputs: int | None = None
    outputs: int | None = None
    parameters: int | None = None
    members: tuple[MemberRecord, ...] = ()
    score: float | None = None
    fold_scores: tuple[FoldScore, ...] = ()
    seconds: Mapping[str, float] = dataclasses.field(default_factory=dict)
    peak_memory_bytes: int | None = None
    groups: int | None = None
    slots: int | None = None
    devices_per_member: int = 1
    waves: Sequence[Sequence[int]] = ()
    compilations: int | None = None

    @property
    def folds(self) -> tuple[int, ...]:
        return tuple(sorted({score.fold for score in self.fold_scores}))

    def headings(self) -> tuple[str, ...]:
        """Returns what each of `folds` is called."""
        blocks = {score.fold: score.blocks for score in self.fold_scores}
        return tuple(_left_out(fold, blocks[fold]).capitalize() for fold in self.folds)

    @property
    def nested(self) -> bool:
        """Whether a row is predicted by several members of a seed."""
        return any(len(score.blocks) > 1 for score in self.fold_scores)

    def by_epochs(self) -> bool:
        """Tells whether members were trained by epochs, as networks are."""
        return any(member.epochs_run is not None for member in self.members)

    def score_rows(self) -> tuple[FoldRow, ...]:
        """Returns a line per seed; a whole line is the mean over its rows, or known labels."""
        lines = []
        for label, by_fold in self._by_seed():
            cells = sum(s.cells for s in by_fold.values())
            whole = sum(s.cells * s.score for s in by_fold.values()) / cells if cells else math.nan
            lines.append(FoldRow(label, self._across(by_fold, "score"), whole))
        return tuple(lines)

    def size_rows(self) -> tuple[FoldRow, ...]:
        """Returns the rows of each fold: a line per distribution that seeds share."""
        seeds = collections.defaultdict(list)
        for label, by_fold in self._by_seed():
            seeds[self._across(by_fold, "rows")].append(label)
        return tuple(
            FoldRow(
                "Rows" if len(seeds) == 1 else f"Rows of {', '.join(labels)}",
                sizes,
                sum(filter(None, sizes)),
            )
            for sizes, labels in seeds.items()
        )

    def _by_seed(self) -> Iterable[tuple[str, Mapping[int, FoldScore]]]:
        seeds: dict[int | None, dict[int, FoldScore]] = collections.defaultdict(dict)
        for score in self.fold_scores:
            seeds[score.seed][score.fold] = score
        for seed in sorted(seeds, key=lambda seed: seed is None):
            yield "Mean" if seed is None else str(seed), seeds[seed]

    def _across(self, by_fold: Mapping[int, FoldScore], field: str) -> tuple[float | None, ...]:
        return tuple(getattr(by_fold[f], field) if f in by_fold else None for f in self.folds)


def _left_out(fold: int | None, blocks: Sequence[int]) -> str:
    return f"blocks {', '.join(map(str, blocks))}" if len(blocks) > 1 else f"fold {fold}"
