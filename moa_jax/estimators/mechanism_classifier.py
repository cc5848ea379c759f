"""MechanismClassifier: the ensembles of the command line in scikit-learn's manner."""

from __future__ import annotations

import dataclasses
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import jax
import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import (
    _check_sample_weight,
    check_consistent_length,
    check_is_fitted,
    validate_data,
)

from moa_jax.config import RunConfig
from moa_jax.data import leaks
from moa_jax.data.dataset import Dataset
from moa_jax.engine import progress_lines, settings
from moa_jax.engine.finished_run import FinishedRun
from moa_jax.errors import UserError
from moa_jax.estimators import (
    checks,
    mechanism_inputs,
    mechanism_saved,
    mechanism_targets,
    refit,
)
from moa_jax.recipes import attribution
from moa_jax.schema import shown, suggestion
from moa_jax.store import files

if TYPE_CHECKING:
    import pandas as pd


class MechanismClassifier(ClassifierMixin, BaseEstimator):
    """Mechanisms of action, or classes of any kind, by the ensembles that the command line trains.

    Configuration, models, folds and blend are those of the command line, and so are the numbers, if
    the data are the same. Every model predicts each training row by networks that have not seen it,
    so that `oof_` and `scores_` come with a fit.

    The shape of Y decides: labels [N, L] of 0 and 1 do not exclude each other; classes [N] do, and
    are trained as one label each, whose probabilities are then divided by their sum.

    Nothing is written but to a temporary folder, which goes with the object or the process, unless
    there is a `workdir`. A fitted one can be pickled, which brings all of its files along; `save`
    writes a folder in which nothing is executed when it is read.

    >>> generator = np.random.default_rng(0)
    >>> wells = generator.normal(size=(40, 4))
    >>> small = {"members": 2, "inputs": ["standard"], "widths": [8], "depths": [1],
    ...          "steps": [20, 20], "epoch_steps": 20, "explain.model": "none"}
    >>> model = MechanismClassifier("profiles:networks,smoke", folds=2, overrides=small)
    >>> model = model.fit(wells, np.where(wells[:, 0] > 0, "agonist", "antagonist"))
    >>> model.classes_.tolist(), model.predict_proba(wells[:3]).shape, model.oof_.shape
    (['agonist', 'antagonist'], (3, 2), (40, 2))

    Args:
      config: a packaged configuration with its variants, such as `profiles:smoke`; the path of a
        Python file; or a ConfigDict. What it says of where data lie is not read.
      groups: name of a column of X, or of `obs` of an AnnData, that holds the compound of each row,
        for `fit` without its own `groups`. It is no feature, and predictions do not need it.
      seeds: number of networks of each fold, or their seeds, of every model; None as the
        configuration says.
      folds: number of folds of every model; None as the configuration says.
      workdir: folder of the run, to look into or to go on after an interruption; None for a
        temporary one. It belongs to one configuration and one data set.
      overrides: other fields, by the names of the command line without `config.`, such as
        `data.cp_times`; a name without a point is that of every model that has such a field.
      random_state: the run's seed, an integer; None as the configuration says.
      verbose: whether lines and a bar tell of the progress.

    Attributes:
      classes_: [L] the classes in ascending order; of labels [L, 2], 0 and 1 of each.
      mechanisms_: [L] names of the labels or classes.
      n_features_in_: number of columns of X, with those of the treatment, without ids and groups.
      feature_names_in_: [n_features_in_] their names, if X had names that are all strings.
      oof_: [N, L] out-of-fold probabilities of the training rows in their order; 0 for controls.
      scores_: see there.
    """

    def __init__(
        self,
        config="profiles",
        *,
        groups=None,
        seeds=None,
        folds=None,
        workdir=None,
        overrides=None,
        random_state=None,
        verbose=False,
    ):
        self.config = config
        self.groups = groups
        self.seeds = seeds
        self.folds = folds
        self.workdir = workdir
        self.overrides = overrides
        self.random_state = random_state
        self.verbose = verbose

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags

    @refit.all_or_nothing
    def fit(self, X, Y, groups=None, sample_weight=None) -> Self:
        """Trains and blends all models of the configuration.

        Args:
          X: [N, columns] finite numbers: an array, whose columns are genes; a data frame, in which
            `cp_type`, `cp_time` and `cp_dose` are the treatment, names that begin with `c-` are of
            viability, `sig_id` and the index name rows, and everything else is of genes; or an
            AnnData.
          Y: [N] classes, or [N, L] labels of 0 and 1, whose names a data frame has; of an AnnData
            also the name of a column of classes of `obs`, or the names of columns of labels.
          groups: [N] compound of each row, whose rows lie in one fold; or the name of a column.
          sample_weight: None, or weights that are all equal: nothing here weighs rows.

        Raises:
          ValueError: X, Y, groups or sample_weight is not what is expected.
          UserError: a parameter is not what is expected, the data do not suit the configuration, or
            training diverged.
        """
        groups = self._group_column() if groups is None else groups
        given = mechanism_inputs.given(X, groups)
        config = self._configuration(given.groups is not None)
        table = self._checked(given.table, reset=True, Y=Y)
        data = mechanism_inputs.settled(table, config.data)
        config = dataclasses.replace(config, data=data)
        found = mechanism_targets.labels(Y, X, data.missing_targets)
        check_consistent_length(table, found.targets.values)
        rows = mechanism_inputs.rows(table, given, config, False, self)
        if sample_weight is not None:
            self._check_weights(sample_weight, rows.features)
        if found.classes is not None and rows.is_control.any():
            raise ValueError("Y: expected labels [N, L] of rows with controls, which have no class")
        self._check_kept(config, rows)
        targets = found.targets
        mechanism_targets.check_measured(targets, rows.is_control)
        if targets.known is not None:  # a control has no mechanism
            known = targets.known | rows.is_control[:, None]
            targets = dataclasses.replace(targets, known=known)
        rows = dataclasses.replace(rows, scored=targets)
        if answers := leaks.telling(rows):
            warnings.warn(
                f"X: columns that are an answer: {len(answers)}, such as {answers[0]}; nothing is "
                "learned from them about rows without one: leave them out",
                stacklevel=3,
            )
        with progress_lines.shown(self.verbose):
            run = FinishedRun.train(config, rows, self.workdir)
        self.mechanisms_ = np.array(found.targets.names, object)
        self.classes_ = mechanism_targets.label_classes(len(found.targets.names))
        if found.classes is not None:
            self.classes_ = found.classes
        self._run, self._group_name = run, groups if isinstance(groups, str) else None
        self.oof_ = np.zeros(found.targets.values.shape)
        self.oof_[~rows.is_control] = run.oof.aligned(rows.ids[~rows.is_control]).values
        if found.classes is not None:
            self.oof_ = _of_sum_one(self.oof_)
        return self

    def predict_proba(self, X) -> np.ndarray:
        """Returns the probabilities of the labels, or of the classes, [N, L] float64.

        They are as they are blended, not calibrated, in the order of `mechanisms_`.

        Args:
          X: [N, columns] as for `fit`, the treatment at levels that the training rows had; groups
            are not needed.

        Raises:
          ValueError: X is not what is expected.
        """
        check_is_fitted(self)
        rows = dataclasses.replace(self._rows(X, self._column(X)), drug_id=None)
        probabilities = self._run.predict(rows).values
        return probabilities if self._is_multi_label else _of_sum_one(probabilities)

    def predict(self, X) -> np.ndarray:
        """Returns the likeliest class of each row [N], or 0 and 1 for each label [N, L].

        A label is 1 where its probability is above 0.5; X and errors are those of `predict_proba`.
        """
        probabilities = self.predict_proba(X)
        if self._is_multi_label:
            return (probabilities > 0.5).astype(np.int64)
        return self.classes_[probabilities.argmax(axis=1)]

    def predict_compounds(self, X, compounds=None) -> pd.DataFrame:
        """Returns what is said of each compound: a line per compound and mechanism, as the CSV has.

        The wells of a compound are combined in log odds and calibrated on the out-of-fold
        predictions; what is confident is so at the configuration's false discovery rate. Controls
        are left out. Probabilities of classes are not divided by their sum.

        Args:
          X: [N, columns] as for `fit`.
          compounds: [N] compound of each row; or the name of a column of X that holds it, by
            default the one that `fit` had.

        Returns:
          Columns `compound`, `mechanism`, `probability`, `rank`, `confident`, `replicates`,
          `spread`, `model_spread` and `member_spread`, see `moa_jax.answers.table.long_table`;
          compounds in the order of their first wells, mechanisms by rank.

        Raises:
          ValueError: X or compounds is not what is expected.
        """
        check_is_fitted(self)
        rows = self._to_answer(X, compounds, True)
        assert rows.drug_id is not None
        return self._run.compounds(rows, rows.drug_id)

    def explain(self, X, target=None, *, by="mechanism", compounds=None) -> pd.DataFrame:
        """Returns which columns drive the probability of mechanisms, by integrated gradients.

        Args:
          X: [N, columns] as for `fit`.
          target: the mechanism, several, or None for all.
          by: what attributions are means over: `mechanism`, the rows of X in which it is most
            likely, as the command line has it; `compound`, those of each compound, too; or `row`,
            each row alone.
          compounds: as of `predict_compounds`, for `compound`.

        Returns:
          Columns `mechanism`, `feature` and `attribution`, in log odds, and `compound` or `sig_id`;
          see `moa_jax.recipes.attribution.attributions`.

        Raises:
          ValueError: X, target, by or compounds is not what is expected.
        """
        check_is_fitted(self)
        if by not in attribution.UNITS:
            raise ValueError(f"by: expected one of {[*attribution.UNITS]}, found {shown(by)}")
        wanted = None if target is None else [target] if np.ndim(target) == 0 else [*target]
        names = None if wanted is None else [str(name) for name in wanted]
        for name in names or ():
            if name not in self.mechanisms_:
                near = suggestion(name, self.mechanisms_)
                raise ValueError(f"target: expected mechanisms, found no {name!r}{near}")
        rows = self._to_answer(X, compounds, by == "compound")
        with progress_lines.shown(self.verbose):
            return self._run.explain(rows, names, by)

    @property
    def scores_(self) -> dict[str, Any]:
        """Out-of-fold scores: `log_loss`, as the command line reports it, and `mechanisms`.

        These are a data frame, a row per mechanism, with `roc_auc` and `average_precision` among
        its columns, see `moa_jax.answers.mechanism_scores.table`. Classes are scored as labels.
        """
        check_is_fitted(self)
        return self._run.scores

    def report(self, path: str | Path) -> None:
        """Writes the page about the run that the command line writes: one HTML file.

        Raises:
          UserError: the file cannot be written.
        """
        check_is_fitted(self)
        files.check_no_tilde("path", path)
        self._run.write_report(Path(path))

    def save(self, path: str | Path) -> None:
        """Writes a new folder, from which `load` and the command line's mode infer predict.

        A folder that holds nothing but what an earlier `save` wrote is replaced.

        Raises:
          UserError: something else is there, or the folder cannot be written.
        """
        check_is_fitted(self)
        files.check_no_tilde("path", path)
        mechanism_saved.write(self, Path(path))

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Returns what `save` wrote; nothing in the folder is executed, and it must stay.

        Raises:
          UserError: a file is missing, damaged, or of another estimator or format.
        """
        return mechanism_saved.read(cls, Path(path))

    @property
    def _is_multi_label(self) -> bool:
        return self.classes_.ndim == 2

    def _column(self, X) -> str | None:
        """Returns the column of groups that `fit` had where X has it: new rows need not."""
        found = X.obs if hasattr(X, "obs") else X
        has = hasattr(found, "columns") and self._group_name in found.columns
        return self._group_name if has else None

    def _rows(self, X, groups: Any) -> Dataset:
        """Returns rows with the columns of the training rows; groups as of `given`."""
        given = mechanism_inputs.given(X, groups)
        table = self._checked(given.table, reset=False)
        table = mechanism_inputs.named(table, getattr(self, "feature_names_in_", None))
        return mechanism_inputs.rows(table, given, self._run.config, True, self)

    def _to_answer(self, X, compounds: Any, by_compound: bool) -> Dataset:
        """Returns rows, some of them treated, and with their compounds where these are needed."""
        rows = self._rows(X, self._column(X) if compounds is None else compounds)
        if by_compound and rows.drug_id is None:
            raise ValueError("compounds: expected the compound of each row, found none")
        if rows.is_control.all():
            raise ValueError("X: expected treated rows, found controls alone")
        return rows

    def _configuration(self, grouped: bool) -> RunConfig:
        state = self.random_state
        if state is not None and not checks.is_integer(state):
            raise UserError(f"random_state: expected an integer or None, found {shown(state)}")
        config = settings.resolved(
            self.config,
            self.overrides,
            self.seeds,
            self.folds,
            None if state is None else int(state),
            grouped,
        )
        if jax.config.values["jax_enable_x64"]:  # as the command line takes the environment's
            config = dataclasses.replace(config, precision="float64")
        if self.workdir is None:  # nobody looks into it, and nothing goes on there
            config = dataclasses.replace(
                config,
                logging=dataclasses.replace(config.logging, tensorboard=False),
                checkpoint=dataclasses.replace(config.checkpoint, seconds=1e9),
            )
        return config

    def _group_column(self) -> str | None:
        if self.groups is None or isinstance(self.groups, str):
            return self.groups
        raise UserError(
            f"groups: expected the name of a column of X, found {shown(self.groups)}; fit takes "
            "the group of each row"
        )

    def _checked(self, table: Any, reset: bool, **labels) -> Any:
        """Returns a data frame of known columns as it is, everything else as an array."""
        checks.check_cells(table)
        if hasattr(table, "columns"):
            given = labels.get("Y", "no_validation")
            validate_data(self, table, given, reset=reset, skip_check_array=True)
            return table
        if "Y" in labels and labels["Y"] is None:
            validate_data(self, table, None, reset=reset, skip_check_array=True)
        return validate_data(
            self,
            table,
            dtype=np.float64,
            reset=reset,
            ensure_min_samples=2 if reset else 1,
            ensure_all_finite=False,  # which is told with row and column
        )

    def _check_weights(self, sample_weight: Any, X: np.ndarray) -> None:
        weights = _check_sample_weight(sample_weight, X)
        if (weights != weights[0]).any():
            raise ValueError(
                "sample_weight: expected None or equal weights, found different ones; the networks "
                "of an ensemble do not weigh rows: leave out rows that are not to count"
            )

    def _check_kept(self, config: RunConfig, rows: Dataset) -> None:
        if config.data.groups == "compound" and rows.drug_id is None:
            raise UserError(
                "groups: expected the compound of each row, which the configuration's folds keep "
                "whole, found none; give them, or overrides={'data.groups': 'none'}"
            )


def _of_sum_one(probabilities: np.ndarray) -> np.ndarray:
    """Returns probabilities [N, L] divided by their sum over L; equal ones where that is 0."""
    total = probabilities.sum(1, keepdims=True)
    equal = np.full(probabilities.shape, 1 / probabilities.shape[1])
    return np.divide(probabilities, total, out=equal, where=total > 0)
