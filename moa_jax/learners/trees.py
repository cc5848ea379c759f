"""Boosted trees of each label, by LightGBM."""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from moa_jax.errors import UserError, first_line
from moa_jax.learners.learner import is_known, share
from moa_jax.store import cores

if TYPE_CHECKING:
    from moa_jax.learners.tree_tables import TreeTables

# Labels that are fitted side by side, at most: each has a table of its own in memory.
MOST_WORKERS = 8
# A model that has predicted so many rows is given tables of its trees, which take a while to make.
MANY_ROWS = 4_096
# Rows that they must predict as LightGBM does.
TRIED = 200
# As many trees are grown before the first of them are looked at, or one for so many rows: few rows
# are learned by few trees.
FIRST_GROWN, ROWS_OF_A_TREE = 80, 10
NEEDED = "trees need LightGBM: pip install 'moa-jax[lightgbm]'"


def is_installed() -> bool:
    """Tells whether LightGBM is there."""
    return importlib.util.find_spec("lightgbm") is not None


@dataclasses.dataclass
class TreesModel:
    """A booster of each label.

    Attributes:
      shares: [L] what a label without a booster is predicted as.
      boosters: LightGBM's, by the label's number.
      trees: how many of a booster's trees count, by the label's number.
      num_predicted: rows that it has predicted so far.
    """

    shares: np.ndarray
    boosters: Mapping[int, Any]
    trees: Mapping[int, int]
    num_predicted: int = 0

    num_parameters = None

    def arrays(self) -> dict[str, Any]:
        """Returns shares, and each booster as the bytes of LightGBM's text."""
        texts = {
            str(label): np.frombuffer(booster.model_to_string(self.trees[label]).encode(), np.uint8)
            for label, booster in self.boosters.items()
        }
        return {"shares": self.shares, "trees": texts}

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Returns the probabilities [N, L] of rows [N, F]; by tables they are LightGBM's bits."""
        is_many, self.num_predicted = self.num_predicted >= MANY_ROWS, self.num_predicted + len(x)
        tables = self._tables if is_many else None
        if tables is None or not tables.take(x):
            return self._predicted(x)
        found = np.tile(self.shares, (len(x), 1))
        found[:, [*self.boosters]] = tables.predict(x)
        return found

    def _predicted(self, x: np.ndarray) -> np.ndarray:
        from scipy import sparse

        found = np.tile(self.shares, (len(x), 1))
        for label, booster in self.boosters.items():
            # LightGBM spends its time on the columns of a row: it is given those that trees read.
            columns = self._read[label]
            read = sparse.csr_matrix(
                (
                    x[:, columns].ravel(),
                    np.tile(columns, len(x)),
                    np.arange(len(x) + 1) * len(columns),
                ),
                x.shape,
            )
            found[:, label] = booster.predict(read, num_iteration=self.trees[label], num_threads=1)
        return found

    @functools.cached_property
    def _tables(self) -> TreeTables | None:
        """Tables of the trees; None where they would not predict what LightGBM does."""
        from moa_jax.learners.tree_tables import TreeTables

        texts = [text.tobytes().decode() for text in self.arrays()["trees"].values()]
        tables = TreeTables.of(texts) if texts else None
        if tables is None:
            return None
        (width,) = {booster.num_feature() for booster in self.boosters.values()}
        tried = np.random.default_rng(0).normal(size=(TRIED, width))
        # What is as great as a threshold is where another comparison would differ.
        tried[np.arange(len(tables.columns)) % TRIED, tables.columns] = tables.thresholds
        expected = self._predicted(tried)[:, [*self.boosters]]
        return tables if tables.predict(tried).tobytes() == expected.tobytes() else None

    @functools.cached_property
    def _read(self) -> dict[int, np.ndarray]:
        """The columns that each booster's trees read."""
        return {
            label: np.flatnonzero(booster.feature_importance("split", self.trees[label])).astype(
                np.int32
            )
            for label, booster in self.boosters.items()
        }


class _Grown(NamedTuple):
    """A booster, and how many trees it had after each round."""

    booster: Any
    trees: Sequence[int]


@dataclasses.dataclass(frozen=True)
class Trees:
    """Gradient boosting of small trees, all labels with the same number of them.

    Attributes:
      strengths: numbers of trees, in ascending order.
      learning_rate: factor on what each tree adds.
      leaves: leaves of a tree at most.
      leaf_rows: rows of a leaf at least.
      ridge: what a leaf's value is shrunk by: so much is added to its sum of p (1 - p). Without it
        a pure leaf of five rows is as sure as one of fifty.
      rows: share of the rows that each tree learns from, drawn anew.
      columns: columns that each tree may use, drawn anew, so that a tree costs the same on 300
        columns and on 3,000; of few columns half.
    """

    strengths: tuple[int, ...]
    learning_rate: float
    leaves: int
    leaf_rows: int
    ridge: float
    rows: float
    columns: int

    name = "boosted trees"
    strength = "trees"

    def fits(
        self, x: np.ndarray, y: np.ndarray, strengths: Sequence[float]
    ) -> Iterator[TreesModel]:
        """Yields the models, whose trees are the first of the last one's. See `Learner`.

        A label without both classes gets its share, whatever the row. A label's trees are the same
        however many labels are fitted side by side, and however many trees follow. Where a draw of
        a dozen rows leaves nothing to split, LightGBM leaves the tree out; the round counts, so
        that a number of rounds has the same trees in a search and alone. No more are grown than
        about twice what is asked for: a search that ends has not grown the rest.
        """
        known = is_known(y)
        both = [
            label for label in range(y.shape[1]) if len(np.unique(y[known[:, label], label])) == 2
        ]
        shares = np.array([share(own) for own in y.T])
        found: dict[int, _Grown] = {}
        grown, first = 0, min(FIRST_GROWN, len(x) // ROWS_OF_A_TREE)
        for rounds in map(int, strengths):
            if rounds > grown:
                # Boosters of labels share one table, which holds one label at a time, so that none
                # can go on: they are grown anew, each time to the double.
                grown = min(int(max(strengths)), max(rounds, 2 * grown, first))
                found = self._side_by_side(x, y, known, grown, both)
            boosters = {label: one.booster for label, one in found.items()}
            counted = {label: one.trees[rounds - 1] for label, one in found.items()}
            yield TreesModel(shares, boosters, counted)

    def _side_by_side(
        self, x: np.ndarray, y: np.ndarray, known: np.ndarray, rounds: int, labels: Sequence[int]
    ) -> dict[int, _Grown]:
        """Returns the boosters of labels in their order, grown by as many workers as are of use."""
        workers = max(1, min(MOST_WORKERS, cores.available(), len(labels)))
        grow = functools.partial(self._grown, x, y, known, rounds)
        with ThreadPoolExecutor(workers) as pool:
            grown = pool.map(grow, [labels[first::workers] for first in range(workers)])
            found = {label: one for part in grown for label, one in part.items()}
        return {label: found[label] for label in labels}

    def _parameters(self, x: np.ndarray) -> dict[str, Any]:
        return {
            "objective": "binary",
            "learning_rate": self.learning_rate,
            "num_leaves": self.leaves,
            "min_data_in_leaf": self.leaf_rows,
            "lambda_l2": self.ridge,
            "bagging_fraction": self.rows,
            "bagging_freq": 1,
            "feature_fraction": min(0.5, self.columns / x.shape[1]),
            "seed": 0,
            "deterministic": True,
            "force_col_wise": True,
            # A tree of so few columns is grown before threads have met; labels have threads.
            "num_threads": 1,
            "verbosity": -1,
        }

    def _grown(
        self, x: np.ndarray, y: np.ndarray, known: np.ndarray, rounds: int, labels: Sequence[int]
    ) -> dict[int, _Grown]:
        """Returns the boosters of some labels, by a table of their own: it has one at a time."""
        import lightgbm

        parameters = self._parameters(x)
        whole, found = None, {}
        for label in labels:
            own = known[:, label]
            # A table is binned once for all labels that are known of every row.
            if not own.all():
                data = _table(x[own], parameters)
            else:
                data = whole = _table(x, parameters) if whole is None else whole
            data.set_label(y[own, label].astype(np.float64))
            trees: list[int] = []
            booster = lightgbm.train(
                parameters,
                data,
                num_boost_round=rounds,
                callbacks=[lambda state, trees=trees: trees.append(state.model.num_trees())],
            )
            found[label] = _Grown(booster, trees)
        return found

    def restored(self, arrays: Mapping[str, Any]) -> TreesModel:
        """Returns the model, see `Learner`.

        Raises:
          UserError: LightGBM is not installed.
          ValueError: it cannot read the text of a booster.
        """
        if not is_installed():
            raise UserError(NEEDED)
        import lightgbm

        try:
            boosters = {
                int(label): lightgbm.Booster(model_str=text.tobytes().decode())
                for label, text in arrays.get("trees", {}).items()
            }
        except lightgbm.basic.LightGBMError as error:
            raise ValueError(first_line(error)) from None
        counted = {label: booster.num_trees() for label, booster in boosters.items()}
        return TreesModel(arrays["shares"], boosters, counted)


def _table(x: np.ndarray, parameters: Mapping[str, Any]) -> Any:
    import lightgbm

    return lightgbm.Dataset(x, params=dict(parameters), free_raw_data=False).construct()
