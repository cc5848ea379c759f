"""What the trees in this room hold, and what programs take and give.

A tree is a nest of mappings and tuples with arrays at its leaves. Shapes are those of one member;
lifted to all of them, a tree has the leading axes [shards, members per shard] on devices and
[members] on the host.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeAlias, TypeVar

# A `jax.Array` in programs and on devices, numpy's on the host, a `ShapeDtypeStruct` of shapes.
Array: TypeAlias = Any
# Trainable arrays and running statistics of a network, by the path of its modules.
Params: TypeAlias = Mapping[str, Any]
BatchStats: TypeAlias = Mapping[str, Any]
# What `network.apply` takes: `{params, batch_stats}`, the second one absent where there are none.
Variables: TypeAlias = Mapping[str, Any]
# Arrays that all members read, and those of one member; what they hold is up to `Forward.inputs`.
SharedArrays: TypeAlias = Any
MemberArrays: TypeAlias = Any
# What a network returns: logits [rows, targets], or a tuple of them and auxiliary outputs.
Outputs: TypeAlias = Any
# State of a `rules.Rule`: a named tuple of scalars.
RuleState: TypeAlias = Any
# `loss(outputs, targets [rows, targets], mask) -> scalar`; a mask is of rows [rows] or, where
# labels are unknown, of cells [rows, targets].
Loss: TypeAlias = Callable[[Outputs, Array, Array], Array]
# `program(state, arguments, shared) -> (state, output)`, of one member or of all.
MemberFunction: TypeAlias = Callable[[Any, Any, Any], tuple[Any, Any]]
# A tree of some structure that a function keeps.
Tree = TypeVar("Tree")


class Shared(NamedTuple):
    """What all members read while they are fitted.

    Attributes:
      inputs: the stage's shared arrays.
      targets: [N, L] targets of the training rows.
      known: [N, L] bool, which of them losses are of; None, of which nothing is computed, for all.
    """

    inputs: SharedArrays
    targets: Array
    known: Array | None = None

    def cells(self, rows: Array, mask: Array) -> Array:
        """Returns the mask of a loss: of real rows [...], or of their known cells [..., L].

        Args:
          rows: [...] positions of rows.
          mask: [...], true for real ones.
        """
        return mask if self.known is None else mask[..., None] & self.known[rows]

    def known_cells(self, rows: Array, mask: Array) -> Array:
        """Returns the number of known cells of the real rows of each batch, [steps].

        Args:
          rows: [steps, batch] positions of rows.
          mask: [steps, batch], true for real ones.
        """
        assert self.known is not None
        return (self.known.sum(1)[rows] * mask).sum(1)


class Own(NamedTuple):
    """What is a member's own in every program.

    Attributes:
      data: the member's arrays.
      total_steps: [] int32, optimiser steps that its schedule is made for.
      start: variables that take the place of initial ones; may be empty, and is read once.
    """

    data: MemberArrays
    total_steps: Array
    start: Variables = {}


class Batches(NamedTuple):
    """An index table; a step's real rows come first, and steps that have some.

    Attributes:
      rows: [steps, batch] int32 row positions.
      counts: [steps] int32 number of real rows.
    """

    rows: Array
    counts: Array


class Training(NamedTuple):
    """What a member trains with in one device call."""

    own: Own
    batches: Batches


class Validation(NamedTuple):
    """What a member is validated with.

    Attributes:
      own: what is its own.
      batches: the rows whose loss the rules see.
      epoch_steps: [] int32, optimiser steps of an epoch.
    """

    own: Own
    batches: Batches
    epoch_steps: Array


class EpochReport(NamedTuple):
    """What validation tells of an epoch.

    Attributes:
      train_loss: [] mean training loss of the epoch's batches.
      valid_loss: [] validation loss.
      best_loss: [] validation loss of the kept epoch.
      active: [] whether the member trained in this epoch.
    """

    train_loss: Array
    valid_loss: Array
    best_loss: Array
    active: Array


class Finished(NamedTuple):
    """What a finished member predicts with: its kept variables and its arrays."""

    variables: Variables
    data: MemberArrays


class Prediction(NamedTuple):
    """What a finished member predicts.

    Attributes:
      member: its variables and arrays.
      rows: [steps, batch] int32 row positions.
    """

    member: Finished
    rows: Array


class PredictionShared(NamedTuple):
    """What all members read in prediction.

    Attributes:
      inputs: the shared arrays.
      steps: [] int32, how many of the steps have rows; the others cost nothing and answer 0.
    """

    inputs: SharedArrays
    steps: Array
