"""What TabNetClassifier is given: pairs for evaluation, and the factors of its losses by hand."""

import copy
import gc
import json
import weakref
from decimal import Decimal

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import scipy.sparse

from moa_jax.estimators import (
    checks,
    mechanism_targets,
    tabnet_classifier,
    tabnet_estimator,
    tabnet_inputs,
    tabnet_supervised,
    tabnet_targets,
)
from moa_jax.estimators.deep_insight import DeepInsight
from moa_jax.models.tabnet import TabNet
from moa_jax.training import losses, reuse

X, Y = np.zeros((2, 2)), np.array([0, 1])
ROWS = np.array([1.0, 2.0, 3.0, 4.0])


@pytest.mark.parametrize(
    ("eval_set", "count"),
    [
        ((X, Y), 1),
        ([X, Y], 1),
        ([(X, Y)], 1),
        ([[X, Y], (X, Y), (X, Y)], 3),
        (((X, Y), (X, Y)), 2),
        # Tables of two rows are no pairs, however they are written.
        ((X.tolist(), Y.tolist()), 1),
        ((X.tolist(), [[0, 1], [1, 0]]), 1),
        ([(X.tolist(), Y), (X.tolist(), Y)], 2),
        ((pd.DataFrame(X), pd.Series(Y)), 1),
        ([(pd.DataFrame(X), Y), (X, pd.Series(Y))], 2),
    ],
)
def test_pairs(eval_set, count):
    found = tabnet_inputs.evaluation_pairs(eval_set)
    assert len(found) == count
    assert all(np.shape(x) == (2, 2) and len(y) == 2 for x, y in found)


@pytest.mark.parametrize("eval_set", [None, X, "ab", (), [Y], (X,), (X, Y, Y), ([X], [Y]), (Y, X)])
def test_what_is_no_pair(eval_set):
    with pytest.raises(ValueError, match=r"^eval_set: expected a pair \(X, y\) or a list"):
        tabnet_inputs.evaluation_pairs(eval_set)


def factors(class_weight, rows=None):
    """Of the classes a, a, b, c."""
    targets = np.array([[1, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], np.float32)
    classes = np.array(["a", "b", "c"])
    found = tabnet_targets.loss_weights(class_weight, rows, targets, classes, False)
    return found if found is None else found[:, 0].tolist()


def test_factors_of_classes():
    assert factors(None) is None
    assert factors(None, ROWS) == ROWS.tolist()
    assert factors({"a": 2, "c": 0.5}) == [2, 2, 1, 0.5]
    assert factors({"a": 2, "c": 0.5}, ROWS) == [2, 4, 3, 2]
    # As scikit-learn: rows / (classes * rows of the class).
    np.testing.assert_allclose(factors("balanced"), [2 / 3, 2 / 3, 4 / 3, 4 / 3])
    # Every class weighs 10 / 3 in all, shared in proportion to its rows' weights.
    np.testing.assert_allclose(factors("balanced", ROWS), [10 / 9, 20 / 9, 10 / 3, 10 / 3])


def test_factors_of_labels():
    targets = np.array([[1, 0], [1, 0], [1, 0], [0, 0]], np.float32)

    def found(class_weight, rows=None):
        return tabnet_targets.loss_weights(class_weight, rows, targets, np.arange(2), True)

    # The second label is never true: there is nothing to balance it with.
    np.testing.assert_allclose(found("balanced")[:, 0], [2 / 3, 2 / 3, 2 / 3, 2])
    np.testing.assert_array_equal(found("balanced")[:, 1], 1)
    np.testing.assert_array_equal(found({1: 5}, ROWS), [[5, 1], [10, 2], [15, 3], [4, 4]])
    np.testing.assert_array_equal(found([{0: 3}, {0: 7}]), [[1, 7], [1, 7], [1, 7], [3, 7]])
    for wrong in ([{0: 1}], 3, [{0: 1}, None]):
        with pytest.raises(ValueError, match="class_weight: expected None, 'balanced', or factors"):
            found(wrong)
    with pytest.raises(ValueError, match="class_weight: expected classes .*, found 2"):
        found({2: 1})


def test_factors_have_mean_1_over_the_rows_of_each_part():
    weights = np.array([[1.0], [3.0], [6.0], [0.0], [0.0]])
    found = tabnet_supervised._scaled(weights, np.array([0, 1]), np.array([2]), np.array([3, 4]))
    np.testing.assert_array_equal(found[:, 0], [0.5, 1.5, 1, 1, 1])


def test_losses_with_factors_by_hand():
    logits = jnp.array([[0.0, 1.0], [2.0, -1.0], [9.0, 9.0]])
    targets = jnp.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    mask, of_row = jnp.array([True, True, False]), jnp.array([[3.0], [0.5], [7.0]])
    each = jnp.log(1 + jnp.exp(jnp.where(targets > 0, -logits, logits)))
    of_label = jnp.array([[3.0, 1.0], [0.5, 2.0], [7.0, 7.0]])
    for weights in (of_row, of_label):
        found = losses.binary_cross_entropy(logits, targets, mask, weights)
        np.testing.assert_allclose(found, (each * weights)[:2].mean(), rtol=1e-6)
    of_class = jnp.log(1 + jnp.exp(jnp.array([1.0, 3.0])))
    found = losses.cross_entropy(logits, targets, mask, of_row)
    np.testing.assert_allclose(found, (of_class * of_row[:2, 0]).mean(), rtol=1e-6)
    # The estimator's targets carry the factors behind the classes.
    carried = tabnet_supervised._loss(
        (logits, 0.25), jnp.concatenate([targets, of_row], 1), mask, losses.cross_entropy, 2, 0.1
    )
    np.testing.assert_allclose(carried, found - 0.025, rtol=1e-6)


@pytest.fixture(scope="module")
def fitted():
    x = np.random.default_rng(0).normal(size=(32, 3))
    x[:, 2] = np.arange(32) % 3
    model = tabnet_classifier.TabNetClassifier(
        n_d=4, n_a=4, n_steps=2, n_shared=1, n_independent=0, max_epochs=1,
        cat_idxs=[2], cat_dims=[3],
    )  # fmt: skip
    return model.fit(x, x[:, 0] > 0), x


@pytest.mark.parametrize(
    "parameters",
    [
        {"cat_idxs": None, "cat_dims": None},
        {"gamma": 3.0},
        {"mask_type": "entmax"},
        {"n_steps": 1, "n_d": 7},
    ],
    ids=lambda parameters: ",".join(parameters),
)
def test_parameters_set_after_fit_wait_for_the_next(fitted, tmp_path, parameters):
    model, x = fitted
    expected = model.predict_proba(x), model.explain(x)[0]
    changed = copy.copy(model).set_params(**parameters)
    changed.save(tmp_path)
    for found in (changed, type(model).load(tmp_path)):
        np.testing.assert_array_equal(found.predict_proba(x), expected[0])
        np.testing.assert_array_equal(found.explain(x)[0], expected[1])
        with pytest.raises(ValueError, match="column 2: expected codes 0 to 2, found 3"):
            found.predict(np.full((1, 3), 3.0))


def test_folders_of_earlier_versions_take_the_network_from_the_parameters(fitted, tmp_path):
    model, x = fitted
    model.save(tmp_path)
    path = tmp_path / "estimator.json"
    stored = json.loads(path.read_text())
    del stored["network"]
    path.write_text(json.dumps(stored))
    found = type(model).load(tmp_path)
    assert found.network_ == model.network_
    np.testing.assert_array_equal(found.predict_proba(x), model.predict_proba(x))


def test_tables_with_dates_are_refused():
    dates = pd.date_range("2020", periods=4)
    for kind in (dates, dates.tz_localize("UTC"), dates - dates[0]):
        with pytest.raises(ValueError, match="X: expected numbers, found dates .* in day: leave"):
            checks.check_cells(pd.DataFrame({"dose": [1.0] * 4, "day": kind}))
    with pytest.raises(ValueError, match="X: expected numbers, found datetime64"):
        checks.check_cells(dates.to_numpy()[:, None])
    for table in (pd.DataFrame({"a": [1], "b": ["c"]}), X, X.tolist(), pd.Series([1])):
        checks.check_cells(table)
    day = pd.DataFrame({"day": dates})
    for estimator in (tabnet_classifier.TabNetClassifier(), DeepInsight(resolution=8)):
        with pytest.raises(ValueError, match="found dates or durations in day"):
            estimator.fit(day, [0, 1, 0, 1])


def test_columns_of_codes_may_be_none():
    model = tabnet_classifier.TabNetClassifier(cat_idxs=None, cat_dims=None)
    assert tabnet_inputs.embedding(model)["cat_idxs"] == ()
    with pytest.raises(ValueError, match="cat_dims: expected one entry for each of cat_idxs"):
        tabnet_inputs.embedding(tabnet_classifier.TabNetClassifier(cat_idxs=[1], cat_dims=None))


@pytest.mark.parametrize(
    ("y", "expected"),
    [
        (pd.Series([2**60, 2**60 + 1], dtype="Int64"), np.array([2**60, 2**60 + 1])),
        (pd.array([True, False], dtype="boolean"), np.array([True, False])),
        (pd.Series([1, 2], dtype="int8[pyarrow]"), np.array([1, 2], np.int8)),
        (scipy.sparse.csr_matrix([[0, 1], [1, 0]]), np.array([[0, 1], [1, 0]])),
        (pd.Series([0.5, 1]), np.array([0.5, 1])),
    ],
)
def test_targets_of_other_kinds_are_those_of_arrays(y, expected):
    found = np.asarray(checks.plain(y))
    np.testing.assert_array_equal(found, expected)
    assert found.dtype == expected.dtype


def test_targets_are_made_plain_before_anything_looks_at_them(monkeypatch):
    asked = []
    monkeypatch.setattr(checks, "plain", lambda y: asked.append(y) or y)
    x, labels, others = np.eye(4), [0, 1, 0, 1], [1, 1, 0, 0]
    small = {"n_steps": 1, "n_shared": 1, "n_independent": 0, "max_epochs": 1}
    tabnet_classifier.TabNetClassifier(**small).fit(x, labels, eval_set=(x, others))
    assert asked == [labels, others]


def test_classes_without_an_order_are_named():
    for values, kinds in ((["a", None], "NoneType, str"), (["a", 1], "int, str")):
        with pytest.raises(ValueError, match=f"^y: expected classes of one type, found {kinds}$"):
            tabnet_targets.classes(np.array(values, object))


def test_fractions_are_no_classes():
    line = r"found 0.5 \(Unknown label type: continuous\); make classes"
    with pytest.raises(ValueError, match=f"^y: expected classes, whole numbers or texts, {line}"):
        tabnet_targets.classes(np.array([1.0, 0.5, 2.0]))
    with pytest.raises(ValueError, match=f"^Y: expected classes, whole numbers or texts, {line}"):
        mechanism_targets.labels([1.0, 0.5, 2.0], np.zeros((3, 2)))
    assert tabnet_targets.classes(np.array([2.0, 1.0])).tolist() == [1, 2]


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (np.array([Decimal(1), Decimal(2)], object), "Decimal"),
        (np.array([1, 2], object), "int"),
        (np.array([b"a", b"b"]), "bytes_"),
    ],
)
def test_classes_of_other_types_are_named(values, kind):
    for name, classes in (
        ("y", tabnet_targets.classes),
        ("Y", lambda Y: mechanism_targets.labels(Y, np.zeros((2, 2)))),
    ):
        line = f"^{name}: expected classes, whole numbers or texts, found objects of type {kind} "
        with pytest.raises(ValueError, match=line):
            classes(values)


def test_texts_of_any_length_are_classes():
    texts = np.array(["a", "b" * 40], np.dtypes.StringDType())
    assert checks.plain(texts).tolist() == ["a", "b" * 40]
    assert tabnet_targets.classes(checks.plain(texts)).tolist() == ["a", "b" * 40]


@pytest.mark.parametrize("factor", [1e308, 1e-310, 1.0])
def test_weights_of_any_size_have_a_sum(factor):
    kept, found = tabnet_inputs.row_weights(
        np.array([0, 1.5, 0.75, 1.2]) * factor, np.zeros((4, 1))
    )
    assert kept.tolist() == [1, 2, 3] and np.isfinite(found.sum() * 1e200)
    np.testing.assert_allclose(found / found[0], [1, 0.5, 0.8], rtol=1e-10)


def test_columns_of_one_name_are_told_and_tables_of_arrow_are_tables():
    x = np.random.default_rng(0).normal(size=(40, 2))
    small = {"n_d": 2, "n_a": 2, "n_steps": 1, "max_epochs": 1}
    twice, table = pd.DataFrame(x, columns=["a", "a"]), pd.DataFrame(x, columns=["a", "b"])
    table["c"] = pd.Categorical(np.where(x[:, 0] > 0, "high", "low"))
    for model in (tabnet_classifier.TabNetClassifier(**small), DeepInsight(embedding="pca")):
        with pytest.raises(ValueError, match="X: expected columns of different names, found sev"):
            model.fit(twice, x[:, 0] > 0)
    found = tabnet_classifier.TabNetClassifier(**small).fit(
        pa.Table.from_pandas(table), x[:, 0] > 0
    )
    assert found.categories_ == {2: ["high", "low"]}
    expected = tabnet_classifier.TabNetClassifier(**small).fit(table, x[:, 0] > 0)
    for rows in (table, pa.Table.from_pandas(table)):
        np.testing.assert_array_equal(found.predict_proba(rows), expected.predict_proba(rows))
    images = DeepInsight(resolution=4, embedding="pca").fit(table[["a", "b"]])
    np.testing.assert_array_equal(
        images.transform(pa.Table.from_pandas(table[["a", "b"]])),
        images.transform(table[["a", "b"]]),
    )


def test_programs_of_predictions_are_those_used_last():
    """Each of them takes megabytes, and a search tries many networks."""
    first = weakref.ref(tabnet_estimator._program(TabNet(1), None))
    assert tabnet_estimator._program(TabNet(1), None) is first()
    for size in range(2, 2 + reuse.MOST_PROGRAMS):
        tabnet_estimator._program(TabNet(size), None)
    gc.collect()
    assert first() is None
