"""TabNetClassifier: scikit-learn's own checks, the three kinds of targets, saving and loading."""

import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import make_blobs, make_multilabel_classification
from sklearn.utils.estimator_checks import parametrize_with_checks

import moa_jax
from moa_jax import TabNetClassifier
from moa_jax.errors import UserError
from moa_jax.estimators.tabnet_inputs import TRAINING
from moa_jax.models.hyperparameters import TABNET
from moa_jax.models.tabnet import TabNet

TINY = {
    "n_d": 4, "n_a": 4, "n_steps": 1, "n_shared": 1, "n_independent": 0, "batch_size": 64,
    "max_epochs": 8, "learning_rate": 0.1, "momentum": 0.3, "random_state": 0,
}  # fmt: skip


# The statistics of batch normalisation count rows, and batches are cut from rows: repeated rows
# train another network than weights do, close as their losses are.
NOT_EXACT = {
    f"check_sample_weight_equivalence_on_{kind}_data": "batches are of rows, not of weights"
    for kind in ("dense", "sparse")
}


@pytest.mark.slow
@parametrize_with_checks([TabNetClassifier(**TINY)], expected_failed_checks=lambda _: NOT_EXACT)
def test_scikit_learn(estimator, check):
    check(estimator)


def blobs(rows=120, classes=3, columns=5, seed=0):
    return make_blobs(rows, columns, centers=classes, cluster_std=0.5, random_state=seed)


def labels(rows=120, seed=0):
    x, y = make_multilabel_classification(rows, 8, n_classes=4, random_state=seed)
    return x, y


@pytest.fixture(scope="module")
def of_classes():
    x, y = blobs()
    return x, np.array(["low", "middle", "top"])[y]


@pytest.fixture(scope="module")
def fitted(of_classes):
    return TabNetClassifier(**TINY).fit(*of_classes)


def test_classes_of_any_type(fitted, of_classes):
    x, y = of_classes
    assert fitted.classes_.tolist() == ["low", "middle", "top"]
    assert fitted.score(x, y) > 0.95
    probabilities = fitted.predict_proba(x)
    assert probabilities.shape == (120, 3) and probabilities.dtype == np.float64
    np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-12)
    np.testing.assert_array_equal(fitted.classes_[probabilities.argmax(1)], fitted.predict(x))


@pytest.mark.parametrize("kind", ["datetime64[D]", "timedelta64[s]"])
def test_classes_that_are_dates_are_saved(tmp_path, kind):
    x, y = blobs(classes=2)
    days = np.array([20784, 20785]).astype(kind)[y]
    found = TabNetClassifier(**TINY | {"max_epochs": 1}).fit(x, days)
    found.save(tmp_path)
    again = TabNetClassifier.load(tmp_path)
    assert again.classes_.dtype == days.dtype
    np.testing.assert_array_equal(again.predict(x), found.predict(x))


def test_two_classes():
    x, y = blobs(classes=2)
    found = TabNetClassifier(**TINY).fit(x, y == 1)
    assert found.classes_.tolist() == [False, True]
    assert found.predict_proba(x).shape == (120, 2)
    assert found.score(x, y == 1) > 0.95


def test_labels_with_columns_of_one_value():
    x, y = labels()
    y = np.column_stack([y, np.zeros(len(y), int), np.ones(len(y), int)])
    found = TabNetClassifier(**TINY | {"max_epochs": 30}).fit(x, y)
    probabilities = found.predict_proba(x)
    assert probabilities.shape == found.predict(x).shape == (120, 6)
    assert found.multi_label_ and found.classes_.tolist() == list(range(6))
    assert probabilities[:, 4].max() < 0.2 and probabilities[:, 5].min() > 0.8
    hits = (found.predict(x)[:, :4] == y[:, :4]).mean()
    assert hits > max(y[:, :4].mean(), 1 - y[:, :4].mean())


def test_a_single_class():
    x, _ = blobs()
    found = TabNetClassifier(**TINY).fit(x, np.full(len(x), "only"))
    np.testing.assert_array_equal(found.predict_proba(x), np.ones((len(x), 1)))
    assert set(found.predict(x)) == {"only"}


def test_the_lowest_loss_decides_and_patience_ends():
    x, y = blobs()
    others = blobs(seed=1)
    found = TabNetClassifier(**TINY | {"max_epochs": 40, "patience": 2})
    found.fit(x, y, eval_set=(others[0], np.random.default_rng(0).permutation(others[1])))
    valid = found.history_["valid_loss"]
    assert found.best_epoch_ == 1 + np.argmin(valid)
    assert len(valid) == len(found.history_["train_loss"]) == min(found.best_epoch_ + 2, 40)
    assert len(valid) < 40


def test_loss_is_that_of_the_kept_network():
    x, y = blobs()
    others, other_y = blobs(seed=1)
    found = TabNetClassifier(**TINY).fit(x, y, eval_set=(others, other_y))
    expected = -np.log(found.predict_proba(others)[np.arange(120), other_y]).mean()
    assert min(found.history_["valid_loss"]) == pytest.approx(expected, rel=1e-4)
    assert found.weights_.loss == pytest.approx(expected, rel=1e-4)


def test_without_held_out_rows_training_rows_decide():
    x, y = blobs()
    found = TabNetClassifier(**TINY | {"validation_fraction": 0}).fit(x, y)
    expected = -np.log(found.predict_proba(x)[np.arange(120), y]).mean()
    assert found.weights_.loss == pytest.approx(expected, rel=1e-4)


def test_explanation_and_importances():
    generator = np.random.default_rng(0)
    x = generator.normal(size=(400, 6))
    code = generator.integers(0, 3, 400)
    x[:, 2] = code
    found = TabNetClassifier(
        **TINY | {"n_steps": 2, "max_epochs": 30}, cat_idxs=[2], cat_dims=[3], cat_emb_dim=2
    ).fit(x, code)
    explanation, masks = found.explain(x)
    assert explanation.shape == (400, 6) and masks.shape == (2, 400, 6)
    np.testing.assert_allclose(masks.sum(2), 1, rtol=1e-5)
    assert (explanation >= 0).all()
    assert found.feature_importances_.shape == (6,)
    assert found.feature_importances_.sum() == pytest.approx(1, rel=1e-5)
    assert found.feature_importances_.argmax() == 2


def test_seeds(of_classes):
    x, y = of_classes

    def probabilities(state):
        return TabNetClassifier(**TINY | {"random_state": state}).fit(x, y).predict_proba(x)

    first = probabilities(1)
    np.testing.assert_array_equal(first, probabilities(1))
    assert (first != probabilities(2)).any()
    generators = [probabilities(np.random.RandomState(3)) for _ in range(2)]
    np.testing.assert_array_equal(*generators)


def test_clone_mirrors_every_parameter():
    changed = TabNetClassifier(n_d=3, cat_idxs=[1], cat_dims=[2], clip_value=None, patience=1)
    assert clone(changed).get_params() == changed.get_params()


def test_defaults_are_those_of_the_network():
    parameters, network = TabNetClassifier().get_params(), TabNet()
    assert TABNET.keys() <= parameters.keys()
    shared = parameters.keys() & {field.name for field in dataclasses.fields(TabNet)}
    assert {n: parameters[n] for n in shared} == {n: getattr(network, n) for n in shared}
    assert TRAINING.keys() <= parameters.keys()
    assert all(parameters[name] == field.default for name, field in TRAINING.items())


def test_training_without_clipping(of_classes):
    x, y = of_classes
    assert TabNetClassifier(**TINY, clip_value=None).fit(x, y).score(x, y) > 0.9


@pytest.mark.parametrize("kind", ["classes", "labels"])
def test_save_and_load(tmp_path, fitted, of_classes, kind):
    if kind == "classes":
        x, saved = of_classes[0], fitted
    else:
        x, y = labels()
        saved = TabNetClassifier(**TINY).fit(x, y)
    saved.save(tmp_path / "model")
    assert sorted(p.name for p in (tmp_path / "model").iterdir()) == [
        "estimator.json", "weights.npz",
    ]  # fmt: skip
    found = TabNetClassifier.load(tmp_path / "model")
    np.testing.assert_array_equal(found.predict_proba(x), saved.predict_proba(x))
    np.testing.assert_array_equal(found.predict(x), saved.predict(x))
    np.testing.assert_array_equal(found.explain(x)[0], saved.explain(x)[0])
    np.testing.assert_array_equal(found.feature_importances_, saved.feature_importances_)
    assert found.get_params() == saved.get_params()
    assert found.classes_.dtype == saved.classes_.dtype
    assert found.history_ == saved.history_ and found.best_epoch_ == saved.best_epoch_


def damage_weights(folder):
    content = (folder / "weights.npz").read_bytes()
    (folder / "weights.npz").write_bytes(content[: len(content) // 2])


def change(**fields):
    def apply(folder):
        path = folder / "estimator.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | fields))

    return apply


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "estimator.json").unlink(), "estimator.json: not found"),
        (lambda folder: (folder / "weights.npz").unlink(), "weights.npz: not found"),
        (lambda folder: (folder / "estimator.json").write_text("[1"), "expected JSON"),
        (lambda folder: (folder / "estimator.json").write_text("[1]"), "estimator.json: expected"),
        (damage_weights, "weights.npz: damaged"),
        (change(format=2), "'format': 2"),
        (change(weights="0"), "weights.npz: damaged, or not of estimator.json"),
        (change(parameters={"n_b": 1}), "estimator.json: damaged: .*n_b"),
        (change(classes_dtype="x"), "estimator.json: damaged"),
    ],
)
def test_damaged_folders_are_one_line(tmp_path, fitted, damage, message):
    fitted.save(tmp_path)
    damage(tmp_path)
    with pytest.raises(UserError, match=message) as raised:
        TabNetClassifier.load(tmp_path)
    assert "\n" not in str(raised.value) and str(tmp_path) in str(raised.value)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"n_d": 0}, "n_d: expected an integer of at least 1, found 0"),
        ({"max_epochs": 1.5}, "max_epochs: expected an integer"),
        ({"gamma": 0.5}, "gamma: expected 1.0 to inf, found 0.5"),
        ({"learning_rate": np.nan}, "learning_rate: expected"),
        ({"validation_fraction": 1.0}, "validation_fraction: expected 0.0 to 0.9"),
        ({"clip_value": 0}, "clip_value: expected above 0 or None"),
        ({"mask_type": "softmax"}, "mask_type: expected one of"),
        ({"n_shared": 0}, "n_independent and n_shared: expected one of them above 0"),
        ({"cat_idxs": [5], "cat_dims": [2]}, "cat_idxs: expected columns from 0 to 4, found 5"),
        ({"cat_idxs": [0], "cat_dims": [2, 3]}, "cat_idxs, cat_dims and cat_emb_dim"),
        ({"cat_idxs": [0, 0], "cat_dims": [2, 2]}, "one entry per distinct column"),
        ({"cat_idxs": [0], "cat_dims": [2], "cat_emb_dim": [1, 2]}, "cat_emb_dim: expected one"),
        ({"cat_idxs": [4]}, r"cat_dims: expected one entry for each of cat_idxs \[4\], found none"),
        ({"cat_dims": [3]}, r"cat_idxs: expected one entry for each of cat_dims \[3\], found none"),
        ({"cat_idxs": np.array([4])}, "cat_dims: expected one entry for each of cat_idxs"),
        ({"cat_idxs": [-1], "cat_dims": [2]}, "cat_idxs: expected integers of at least 0, found"),
        ({"cat_idxs": [0.5], "cat_dims": [2]}, "cat_idxs: expected integers of at least 0, found"),
        ({"cat_idxs": 0, "cat_dims": 2}, "cat_idxs: expected a list of integers, found 0"),
        ({"cat_idxs": [0], "cat_dims": [0]}, "cat_dims: expected integers of at least 1, found 0"),
        ({"cat_emb_dim": 3}, "cat_emb_dim: expected 1 without cat_idxs, found 3"),
        ({"cat_emb_dim": [2]}, "cat_emb_dim"),
        ({"cat_emb_dim": 0}, "cat_emb_dim: expected a list of integers, found 0"),
        ({"momentum": True}, "momentum: expected 0.0 to 1.0, found True"),
        ({"clip_value": "1"}, "clip_value: expected above 0 or None, found '1'"),
        ({"random_state": -1}, "random_state: expected 0 to 4294967295, found -1"),
        ({"class_weight": "equal"}, "class_weight: expected None, 'balanced', or factors"),
        ({"class_weight": [1, 2, 3]}, "class_weight: expected None, 'balanced', or factors"),
        ({"class_weight": {"lo": 2}}, "class_weight: expected classes .*, found 'lo'"),
        ({"class_weight": {"low": -1}}, "class_weight: 'low': expected at least 0, found -1"),
        ({"cat_idxs": [0], "cat_dims": [2]}, "column 0: expected codes 0 to 1"),
    ],
)
def test_parameters_that_cannot_be(of_classes, parameters, message):
    with pytest.raises(ValueError, match=message):
        TabNetClassifier(**TINY | parameters).fit(*of_classes)


@pytest.mark.parametrize(
    ("eval_set", "message"),
    [
        ((np.zeros((2, 4)), ["low", "top"]), "features"),
        ((np.zeros((2, 5)), ["low", "high"]), r"^eval_set: y: expected classes .*found \['high'\]"),
        ((np.zeros((3, 5)), ["low", "top"]), "found 3 and 2"),
        ([(np.zeros((3, 5)), ["low", "top"])], "found 3 and 2"),
        ([(np.zeros((2, 4)), ["low", "top"]), (np.zeros((2, 5)), ["low", "top"])], "features"),
        ((np.zeros((2, 5)), [["low", "top"], ["low", "top"]]), r"one class per row, .*\(2, 2\)"),
        ([], r"eval_set: expected a pair \(X, y\) or a list of such pairs, found a list of 0$"),
        ([np.zeros((2, 5))], "found a list of 1: ndarray"),
        ((np.zeros((2, 5)), ["low", "top"], 1), "found a tuple of 3: ndarray, list, int"),
        ((np.zeros(5), ["low"]), "found a tuple of 2: ndarray, list"),
        ({"X": 0}, "eval_set: expected a pair .*, found dict"),
    ],
)
def test_evaluation_rows_that_do_not_fit(of_classes, eval_set, message):
    with pytest.raises(ValueError, match=message):
        TabNetClassifier(**TINY).fit(*of_classes, eval_set=eval_set)


def test_the_last_pair_of_a_list_decides():
    x, y = blobs()
    (first, first_y), last = blobs(seed=1), blobs(seed=2)
    expected = TabNetClassifier(**TINY).fit(x, y, eval_set=last)
    found = TabNetClassifier(**TINY).fit(
        x, y, [(first.tolist(), first_y), (last[0], last[1][:, None])]
    )
    assert found.history_ == expected.history_
    assert found.history_ != TabNetClassifier(**TINY).fit(x, y, [(first, first_y)]).history_


def contradicting(rows=60):
    """Rows of two kinds, a third of either of class 1."""
    number = np.arange(rows)
    return np.where(number // 3 % 2, 1.0, -1.0)[:, None] * [1, 0.5], number % 3 == 0


@pytest.mark.slow
def test_weights_weigh_as_repeated_rows_do():
    """Rows that cannot be told apart get the share of their weights, or of their repetitions."""
    alike = TINY | {"max_epochs": 100, "patience": 0, "validation_fraction": 0}
    x, y = contradicting()
    weights = np.where(y, 6, 1)
    for found in (
        TabNetClassifier(**alike).fit(x, y, sample_weight=weights),
        TabNetClassifier(**alike).fit(x.repeat(weights, 0), y.repeat(weights)),
    ):
        np.testing.assert_allclose(found.predict_proba(x)[:, 1], 3 / 4, atol=0.03)


def test_a_row_of_weight_0_is_absent_and_equal_weights_are_none(of_classes):
    x, y = of_classes
    weights = np.random.default_rng(0).uniform(0.5, 2, len(x)) * (np.arange(len(x)) % 4 > 0)
    kept = weights > 0

    def probabilities(x, y, weights):
        found = TabNetClassifier(**TINY).fit(x, y, sample_weight=weights)
        return found.predict_proba(of_classes[0])

    found = probabilities(x, y, weights)
    np.testing.assert_array_equal(found, probabilities(x[kept], y[kept], 2 * weights[kept]))
    equal = probabilities(x, y, kept.tolist())
    np.testing.assert_array_equal(equal, probabilities(x[kept], y[kept], None))
    assert (found != equal).any()


def test_held_out_rows_weigh():
    x, y = blobs()
    weights = np.random.default_rng(1).uniform(0, 3, len(x))
    found = TabNetClassifier(**TINY | {"validation_fraction": 0}).fit(x, y, sample_weight=weights)
    of_row = -np.log(found.predict_proba(x)[np.arange(120), y])
    assert found.weights_.loss == pytest.approx(np.average(of_row, weights=weights), rel=1e-4)


def test_balanced_labels_and_evaluation_rows_that_do_not_weigh():
    x, y = labels()
    y = np.column_stack([y, np.zeros(len(y), int)])
    found = TabNetClassifier(**TINY, class_weight="balanced").fit(x, y, eval_set=(x, y))
    probabilities = found.predict_proba(x)
    of_row = -np.log(np.where(y, probabilities, 1 - probabilities)).mean(1)
    assert found.weights_.loss == pytest.approx(of_row.mean(), rel=1e-4)


def test_weights_of_classes_are_saved(tmp_path, fitted):
    for class_weight in ({"low": 1.5, 0: 2}, [{0: 1, 1: 2.5}, "balanced"], "balanced", None):
        changed = clone(fitted).set_params(class_weight=class_weight)
        changed.__dict__ |= {k: v for k, v in vars(fitted).items() if k.endswith("_")}
        changed.save(tmp_path)
        found = TabNetClassifier.load(tmp_path).class_weight
        assert (list(found) if isinstance(found, tuple) else found) == class_weight


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (np.ones(119), "sample_weight.shape"),
        (["a"] * 120, "^sample_weight: expected a number per row"),
        ({"low": 1}, "^sample_weight: expected a number per row"),
        (np.ones((120, 2)), "1D array"),
        (-np.ones(120), "[Nn]egative"),
        (np.full(120, np.nan), "NaN"),
        (np.eye(120)[0], "sample_weight: expected 2 above 0, found 1"),
    ],
)
def test_weights_that_cannot_be(of_classes, weights, message):
    with pytest.raises(ValueError, match=message):
        TabNetClassifier(**TINY).fit(*of_classes, sample_weight=weights)


def test_labels_other_than_0_and_1():
    with pytest.raises(ValueError, match="y: expected labels of 0 and 1, found 2"):
        TabNetClassifier(**TINY).fit(np.zeros((4, 2)), np.array([[0, 2], [2, 0], [2, 2], [0, 0]]))


def test_what_is_not_there():
    masked = np.ma.masked_equal([0, 1, 2, 1], 2)
    for X, y, message in (
        (np.zeros((4, 2)), ["a", None, "b", "a"], "y: row 1: expected a value, found None"),
        (np.zeros((4, 2)), masked, "y: expected a value in every cell, found 1 masked"),
        (masked[:, None], [0, 1, 0, 1], "X: expected a value in every cell, found 1 masked"),
    ):
        with pytest.raises(ValueError, match=message):
            TabNetClassifier(**TINY).fit(X, y)


def test_importing_the_package_stays_light():
    code = (
        "import sys, moa_jax\n"
        "heavy = {'jax', 'sklearn', 'numpy'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "assert moa_jax.TabNetClassifier().n_d == 8"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(AttributeError, match="has no attribute 'TabNet'"):
        _ = moa_jax.TabNet
