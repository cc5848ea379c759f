"""Tests of what learners fit: models, labels that are unknown or of one class, strengths."""

import contextlib
import dataclasses

import numpy as np
import pytest
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from moa_jax.errors import UserError
from moa_jax.learners import learner, trees
from moa_jax.learners.learner import fit, inner_folds_of, share, summed_loss
from moa_jax.learners.logistic import Logistic
from moa_jax.learners.tree_tables import TreeTables
from moa_jax.learners.trees import Trees, TreesModel
from moa_jax.store import cores

LOGISTIC = Logistic((1e-3, 1e-1, 10.0))
TREES = Trees((2, 8, 20), 0.2, 4, 3, 1.0, 0.8, 5)
EVERY = pytest.mark.parametrize("kind", [LOGISTIC, TREES], ids=["logistic", "trees"])


def table(rows=90, seed=0):
    """Rows of which the first two columns tell the first two labels; no row has the third."""
    generator = np.random.default_rng(seed)
    x = generator.normal(size=(rows, 6))
    y = x[:, :3] + 0.5 * generator.normal(size=(rows, 3)) > 0.5
    y[:, 2] = False
    return x, y.astype(np.float64)


def last(kind, x, y):
    *_, model = kind.fits(x, y, kind.strengths)
    return model


def test_logistic_regression_is_scikit_learns():
    x, y = table()
    for c, model in zip(LOGISTIC.strengths, LOGISTIC.fits(x, y, LOGISTIC.strengths), strict=True):
        for label in (0, 1):
            other = LogisticRegression(C=c, tol=1e-10, max_iter=1000).fit(x, y[:, label])
            expected = expit(x @ other.coef_[0] + other.intercept_[0])
            np.testing.assert_allclose(model.predict(x)[:, label], expected, atol=1e-5)
        assert model.num_parameters == 7 * 3


def test_trees_of_few_columns_predict_as_of_all():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(80, 40)), rng.random((80, 2)) < 0.5
    x[:, 3] = 0
    model = last(TREES, x, y)
    new = np.concatenate([rng.normal(size=(9, 40)), np.zeros((1, 40))])
    found = model.predict(new)
    for label, booster in model.boosters.items():
        assert 0 < len(model._read[label]) < 40
        expected = booster.predict(new, num_iteration=20, num_threads=1)
        np.testing.assert_array_equal(found[:, label], expected)


def test_the_first_trees_of_many_are_those_of_few():
    x, y = table()
    (alone,) = TREES.fits(x, y, [8])
    _, of_many, _ = TREES.fits(x, y, TREES.strengths)
    np.testing.assert_array_equal(of_many.predict(x), alone.predict(x))
    assert alone.arrays()["trees"].keys() == {"0", "1"}
    one, two = (m.arrays()["trees"]["0"].tobytes() for m in (alone, of_many))
    assert one.partition(b"end of trees")[0] == two.partition(b"end of trees")[0]
    # What is learned is learned: rows with the label are told from those without.
    assert np.corrcoef(last(TREES, x, y).predict(x)[:, 0], y[:, 0])[0, 1] > 0.8


def test_rounds_have_the_same_trees_where_some_have_none():
    """A draw of so few rows may have no split with four rows on either side."""
    x, y = table(rows=9)
    y[:, 0] = np.arange(9) % 3 == 0
    kind = dataclasses.replace(TREES, strengths=(8, 40, 60), leaf_rows=4)
    found = [*kind.fits(x, y, kind.strengths)]
    assert [len(one.boosters) for one in found] == [2, 2, 2]
    assert min(found[1].trees.values()) < 40
    for rounds, model in zip(kind.strengths, found, strict=True):
        (alone,) = kind.fits(x, y, [rounds])
        np.testing.assert_array_equal(model.predict(x), alone.predict(x))
        np.testing.assert_array_equal(kind.restored(model.arrays()).predict(x), alone.predict(x))


def test_no_more_trees_are_grown_than_a_search_asks_for(monkeypatch):
    x, y = table()
    kind, grown = dataclasses.replace(TREES, strengths=(2, 5, 8, 20, 40)), []
    grow = Trees._grown

    def watched(self, x, y, known, rounds, labels):
        grown.append(rounds)
        return grow(self, x, y, known, rounds, labels)

    monkeypatch.setattr(trees, "FIRST_GROWN", 4)
    monkeypatch.setattr(trees, "MOST_WORKERS", 1)
    monkeypatch.setattr(Trees, "_grown", watched)
    models = kind.fits(x, y, kind.strengths)
    found = [next(models) for _ in range(4)]
    assert grown == [4, 8, 20] and [model.trees[0] for model in found] == [2, 5, 8, 20]
    # Those that were grown anew have the same trees, and the last ones are not grown.
    (alone,) = kind.fits(x, y, [20])
    np.testing.assert_array_equal(found[3].predict(x), alone.predict(x))
    (few,) = kind.fits(x, y, [5])
    np.testing.assert_array_equal(found[1].predict(x), few.predict(x))
    assert grown[3:] == [20, 5]


def test_of_few_rows_few_trees_are_grown_at_first(monkeypatch):
    grown = []
    monkeypatch.setattr(Trees, "_grown", lambda *values: grown.append(values[4]) or {})
    monkeypatch.setattr(trees, "MOST_WORKERS", 1)
    for rows in (90, 900):
        x, y = table(rows=rows)
        with contextlib.suppress(KeyError):  # there is no booster
            next(dataclasses.replace(TREES, strengths=(2, 8, 200)).fits(x, y, (2, 8, 200)))
    assert grown == [9, 80]


def test_trees_draw_rows_and_columns_and_shrink_their_leaves():
    x, y = table()
    whole = dataclasses.replace(TREES, ridge=0.0, rows=1.0)
    plain = last(whole, x, y).predict(x)
    shrunk = last(dataclasses.replace(whole, ridge=5.0), x, y).predict(x)
    assert np.abs(shrunk[:, :2] - 0.5).mean() < np.abs(plain[:, :2] - 0.5).mean() - 0.05
    drawn = last(dataclasses.replace(whole, rows=0.5), x, y).predict(x)
    assert (drawn[:, 0] != plain[:, 0]).any()
    assert TREES._parameters(x)["feature_fraction"] == 0.5
    assert TREES._parameters(np.zeros((2, 50)))["feature_fraction"] == 0.1


@pytest.mark.parametrize("unknown", [False, True])
def test_labels_side_by_side_are_those_one_after_another(monkeypatch, unknown):
    x, _ = table()
    y = (x @ np.random.default_rng(1).normal(size=(6, 7)) > 0.3).astype(np.float64)
    if unknown:
        y[:20, 4] = np.nan
    found, tables = [], []
    binned = trees._table

    def watched(rows, parameters):
        tables.append(len(rows))
        return binned(rows, parameters)

    monkeypatch.setattr(trees, "_table", watched)
    monkeypatch.setattr(trees, "ROWS_OF_A_TREE", 1)  # all trees are grown at once
    monkeypatch.setattr(cores, "available", lambda: 3)
    for most in (1, 8):
        monkeypatch.setattr(trees, "MOST_WORKERS", most)
        tables.clear()
        found.append(last(TREES, x, y).arrays()["trees"])
        assert tables.count(len(x)) == min(most, 3)
    assert list(found[0]) == list(found[1]) == [str(label) for label in range(7)]
    for label, text in found[0].items():
        np.testing.assert_array_equal(text, found[1][label])


@EVERY
def test_a_label_of_one_class_gets_its_share(kind):
    x, y = table()
    y[:, 1] = 1
    found = last(kind, x, y).predict(x[:4])
    np.testing.assert_allclose(found[:, 2], share(y[:, 2]), rtol=1e-12)
    np.testing.assert_allclose(found[:, 1], share(y[:, 1]), rtol=1e-12)
    assert share(y[:, 2]) == 0.5 / 91 and share(y[:, 1]) == 90.5 / 91
    assert len(set(found[:, 0])) > 1


@EVERY
@pytest.mark.parametrize("unknown", [np.nan, 255])
def test_rows_of_an_unknown_label_are_no_part_of_its_fit(kind, unknown):
    x, y = table()
    hidden = y.copy()
    hidden[:30, 0] = unknown
    found = last(kind, x, hidden)
    np.testing.assert_array_equal(
        found.predict(x)[:, 0], last(kind, x[30:], y[30:]).predict(x)[:, 0]
    )
    np.testing.assert_array_equal(found.predict(x)[:, 1], last(kind, x, y).predict(x)[:, 1])
    p = np.full(y.shape, 0.25)
    assert summed_loss(hidden, p) == pytest.approx(
        summed_loss(y, p) - summed_loss(y[:30, :1], p[:30, :1])
    )


@EVERY
def test_what_is_stored_is_the_model(kind):
    x, y = table()
    _, model, _ = kind.fits(x, y, kind.strengths)
    again = kind.restored(model.arrays())
    np.testing.assert_array_equal(again.predict(x), model.predict(x))
    assert again.num_parameters == model.num_parameters


@EVERY
def test_the_strength_is_that_of_the_lowest_loss_of_inner_folds(kind):
    x, y = table()
    units = np.arange(len(x)) // 3
    found = fit(kind, x, y, units, 3, 0)
    inner = inner_folds_of(y, units, 3, 0)
    losses = []
    for strength in kind.strengths:
        p = np.zeros(y.shape)
        for fold in range(3):
            (model,) = kind.fits(x[inner != fold], y[inner != fold], [strength])
            p[inner == fold] = model.predict(x[inner == fold])
        losses.append(summed_loss(y, p) / y.size)
    assert found.chosen == kind.strengths[int(np.argmin(losses))]
    assert found.loss == pytest.approx(min(losses), rel=1e-4)
    np.testing.assert_array_equal(
        found.model.predict(x), next(iter(kind.fits(x, y, [found.chosen]))).predict(x)
    )
    # Labels that have nothing to do with the rows ask for the strongest penalty.
    null = np.random.default_rng(1).permutation(y)
    assert fit(kind, x, null, units, 3, 0).chosen < found.chosen


def test_inner_folds_part_no_unit():
    x, y = table()
    units = np.arange(len(x)) // 5
    inner = inner_folds_of(y, units, 3, 0)
    assert sorted(set(inner)) == [0, 1, 2]
    assert all(len(set(inner[units == unit])) == 1 for unit in units)
    rows = inner_folds_of(y, None, 3, 0)
    assert any(len(set(rows[units == unit])) > 1 for unit in units)
    assert len(set(inner_folds_of(y[:2], None, 3, 0))) == 2


def test_a_single_unit_takes_the_first_strength():
    x, y = table()
    found = fit(LOGISTIC, x, y, np.zeros(len(x), int), 3, 0)
    assert (found.chosen, found.loss) == (1e-3, None)
    only = dataclasses.replace(LOGISTIC, strengths=(0.5,))
    assert fit(only, x, y, None, 3, 0)[1:] == (0.5, None)


def test_of_many_rows_one_inner_fold_decides(monkeypatch):
    x, y = table()
    sizes = []

    class Counted(Logistic):
        def fits(self, x, y, strengths):
            sizes.append(len(x))
            return super().fits(x, y, strengths)

    fit(Counted((0.1, 1.0)), x, y, None, 3, 0)
    assert len(sizes) == 4
    monkeypatch.setattr(learner, "MANY_ROWS", 80)
    fit(Counted((0.1, 1.0)), x, y, None, 3, 0)
    assert len(sizes) == 6 and 55 < sizes[4] < 65 and sizes[5] == 90
    # Fewer rows have as many cells of labels.
    for rows, cells, folds in ((80, 260, 1), (80, 280, 3), (95, 260, 3)):
        monkeypatch.setattr(learner, "MANY_ROWS", 100)
        monkeypatch.setattr(learner, "SOME_ROWS", rows)
        monkeypatch.setattr(learner, "MANY_CELLS", cells)
        sizes.clear()
        fit(Counted((0.1, 1.0)), x, y, None, 3, 0)
        assert len(sizes) == folds + 1


def test_of_many_rows_some_labels_decide(monkeypatch):
    x, y = table()
    shapes = []

    class Counted(Logistic):
        def fits(self, x, y, strengths):
            shapes.append(y.shape[1])
            return super().fits(x, y, strengths)

    monkeypatch.setattr(learner, "MOST_LABELS", 2)
    found = fit(Counted((0.1, 1.0)), x, y, None, 3, 0)
    assert shapes == [3, 3, 3, 3]
    monkeypatch.setattr(learner, "MANY_ROWS", 80)
    other = fit(Counted((0.1, 1.0)), x, y, None, 3, 0)
    # The most frequent one and the one that no row has; the model is of all.
    assert shapes[4:] == [2, 3] and other.model.kernel.shape == found.model.kernel.shape == (6, 3)
    own, inner = int(np.argmax(y.sum(0))), inner_folds_of(y, None, 3, 0) == 0
    models = Logistic((0.1, 1.0)).fits(x[~inner], y[~inner], (0.1, 1.0))
    pair = [own, 2]
    losses = [summed_loss(y[inner][:, pair], m.predict(x[inner])[:, pair]) for m in models]
    assert other.loss == pytest.approx(min(losses) / (2 * inner.sum()), rel=1e-9)


def test_a_search_ends_when_two_strengths_are_no_better():
    x, y = table()
    asked = []

    class Counted(Logistic):
        def fits(self, x, y, strengths):
            for strength, model in zip(strengths, super().fits(x, y, strengths), strict=True):
                asked.append(strength)
                yield model

    kind = Counted((1e-2, 1e-1, 1.0, 1e2, 1e4, 1e5, 1e6))
    assert fit(kind, x, y, None, 3, 0).chosen < 1e2
    assert 1e6 not in asked


def test_trees_without_lightgbm_are_told(monkeypatch):
    x, y = table()
    (model,) = TREES.fits(x, y, [2])
    monkeypatch.setattr(trees, "is_installed", lambda: False)
    with pytest.raises(UserError, match=r"pip install 'moa-jax\[lightgbm\]'"):
        TREES.restored(model.arrays())


def test_text_that_is_no_booster_is_told():
    with pytest.raises(ValueError, match="."):
        TREES.restored({"shares": np.zeros(1), "trees": {"0": np.frombuffer(b"no", np.uint8)}})


@pytest.fixture
def trained():
    """Trees of labels, one of which is decided by a column that others do not read."""
    x, _ = table(rows=300)
    y = x @ np.random.default_rng(1).normal(size=(6, 4)) > 0.3
    y[:, 1] = False
    return last(TREES, x, y.astype(np.float64)), x


def test_trees_of_many_rows_are_walked_with_lightgbms_bits(trained, monkeypatch):
    model, x = trained
    new = np.random.default_rng(2).normal(size=(150, 6))
    expected = model.predict(new)
    assert model.num_predicted == 150 and "_tables" not in vars(model)
    monkeypatch.setattr(trees, "MANY_ROWS", 150)
    # At a threshold a row goes left.
    tables = model._tables
    new[np.arange(len(tables.columns)) % 70, tables.columns] = tables.thresholds
    walked = model.predict(new)
    np.testing.assert_array_equal(walked, model._predicted(new))
    assert (walked[70:] == expected[70:]).all() and (walked[:70] != expected[:70]).any()
    # What is no number is LightGBM's to judge, and so are rows without some of the columns.
    unknown = np.where(np.arange(150)[:, None] == 3, np.nan, new)
    np.testing.assert_array_equal(model.predict(unknown), model._predicted(unknown))
    with pytest.raises(IndexError, match="out of bounds"):
        model.predict(new[:, :2])
    monkeypatch.setattr(TreesModel, "_predicted", lambda *_: pytest.fail("by LightGBM"))
    np.testing.assert_array_equal(model.predict(new[70:]), walked[70:])


def test_trees_of_another_kind_are_left_to_lightgbm(trained, monkeypatch):
    model, x = trained
    texts = [booster.model_to_string() for booster in model.boosters.values()]
    assert len(TreeTables.of(texts).roots) == 3 * 20
    kind = "decision_type=2"
    for old, new in (
        ("objective=binary sigmoid:1", "objective=binary sigmoid:2"),
        ("num_cat=0", "num_cat=1"),
        ("is_linear=0", "is_linear=1"),
        (kind, "decision_type=1"),
        (kind, "decision_type=6"),
    ):
        assert old in texts[0]
        assert TreeTables.of([texts[0].replace(old, new)]) is None
    # So are those that would be walked to other probabilities.
    monkeypatch.setattr(trees, "MANY_ROWS", 0)
    monkeypatch.setattr(TreeTables, "predict", lambda self, x: np.zeros((len(x), 3)))
    np.testing.assert_array_equal(model.predict(x), model._predicted(x))
