"""TabNetRegressor, TabNetPretrainer, and what all TabNet estimators take: tables, names, starts."""

import copy
import pickle
import warnings
from unittest import mock

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from flax import traverse_util
from scipy.special import softmax
from sklearn.exceptions import NotFittedError
from sklearn.utils.estimator_checks import parametrize_with_checks
from tabnet_reference import RECIPES, state_dict
from test_estimator import NOT_EXACT, TINY
from test_tabnet import network

from moa_jax import TabNetClassifier, TabNetPretrainer, TabNetRegressor
from moa_jax.errors import UserError
from moa_jax.estimators import pytorch_tabnet, tabnet_inputs
from moa_jax.pretrained import tabnet_from_torch
from moa_jax.training import losses, reuse

# One step and eight epochs are too few for what a check asks of regressors.
REGRESSION = TINY | {"n_steps": 2, "max_epochs": 60}
PRETRAINING = TINY | {"n_shared_decoder": 1, "n_independent_decoder": 0}
# Checks that train little; the others are slow.
QUICK = {
    "check_complex_data", "check_do_not_raise_errors_in_init_or_set_param",
    "check_dont_overwrite_attributes", "check_estimator_sparse_tag", "check_estimators_unfitted",
    "check_fit2d_1sample", "check_get_params_invariance", "check_no_attributes_set_in_init",
    "check_parameters_default_constructible", "check_set_params", "check_supervised_y_no_nan",
    "check_transformers_unfitted",
}  # fmt: skip


@parametrize_with_checks(
    [TabNetRegressor(**REGRESSION), TabNetPretrainer(**PRETRAINING)],
    expected_failed_checks=lambda one: NOT_EXACT if isinstance(one, TabNetRegressor) else {},
)
def test_scikit_learn(estimator, check, request):
    if check.func.__name__ not in QUICK and not request.config.getoption("runslow"):
        pytest.skip("slow; runs with --runslow")
    check(estimator)


def numbers(rows=120, seed=0):
    x = np.random.default_rng(seed).normal(size=(rows, 5))
    return x, np.column_stack([1e6 + 1e3 * x[:, 0], -x[:, 0], np.full(rows, 7.0)])


@pytest.fixture(scope="module")
def regressor():
    x, y = numbers()
    return TabNetRegressor(**TINY | {"max_epochs": 60, "patience": 0, "random_state": 2}).fit(x, y)


def test_several_targets_of_any_scale(regressor):
    x, y = numbers()
    found = regressor.predict(x)
    assert found.shape == y.shape and found.dtype == np.float64
    residual = ((found - y) ** 2).mean(0)[:2] / y.var(0)[:2]
    assert (residual < 0.1).all()
    np.testing.assert_allclose(found[:, 2], 7, atol=1)
    assert regressor.feature_importances_.argmax() == 0


def test_one_target_is_a_vector_and_a_column_a_column_and_rows_weigh():
    x, y = numbers()
    weights = np.random.default_rng(1).uniform(0, 3, 120)
    one, column = (
        TabNetRegressor(**TINY | {"validation_fraction": 0}).fit(x, targets, sample_weight=weights)
        for targets in (y[:, 0], y[:, :1])
    )
    assert one.predict(x).shape == (120,) and column.predict(x).shape == (120, 1)
    np.testing.assert_array_equal(one.predict(x), column.predict(x)[:, 0])
    np.testing.assert_allclose(one.target_mean_, y[:, :1].mean(0))
    np.testing.assert_allclose(one.target_scale_, y[:, :1].std(0))
    # Losses are those of standardised targets.
    error = (one.predict(x) - y[:, 0]) / one.target_scale_
    expected = np.average(error**2, weights=weights)
    assert one.weights_.loss == pytest.approx(expected, rel=1e-4)


def test_mean_squared_error_by_hand():
    outputs, targets = jnp.array([[1.0, 2.0], [3.0, 4.0], [9.0, 9.0]]), jnp.zeros((3, 2))
    mask = jnp.array([True, True, False])
    assert losses.mean_squared_error(outputs, targets, mask) == (2.5 + 12.5) / 2
    weights = jnp.array([[2.0], [4.0], [1.0]])
    assert losses.mean_squared_error(outputs, targets, mask, weights) == (5 + 50) / 2


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (np.array(["a"] * 120), "y: expected numbers|could not convert"),
        (np.full(120, np.nan), "NaN"),
        (np.linspace(-1, 1, 120) * 1e308, "y: expected numbers that can be summed"),
        (np.arange(120).astype("datetime64[D]"), r"y: expected numbers, found datetime64\[D\]"),
        (pd.Series(pd.to_timedelta(np.arange(120))), "y: expected numbers, found timedelta64"),
    ],
)
def test_targets_that_cannot_be(y, message):
    with pytest.raises(ValueError, match=message):
        TabNetRegressor(**TINY).fit(numbers()[0], y)


@pytest.mark.parametrize("factor", [1e-170, 1e290])
def test_targets_whose_squares_are_no_numbers(regressor, factor):
    """What is told of them are mean and deviation, and nothing else."""
    x, y = numbers()
    found = TabNetRegressor(**TINY | {"max_epochs": 2}).fit(x, y[:, 1])
    other = TabNetRegressor(**TINY | {"max_epochs": 2}).fit(x, y[:, 1] * factor)
    np.testing.assert_allclose(other.predict(x) / factor, found.predict(x), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("factor", "place"), [(1e-6, 0), (1e-30, 0), (1e-200, 0), (0.1, 1e9)])
@pytest.mark.parametrize("kind", [TabNetClassifier, TabNetRegressor, TabNetPretrainer])
def test_columns_of_any_scale_are_learned_alike(kind, factor, place, tmp_path):
    """In float32 little is left of them, or the first normalisation hides it."""
    x, y = numbers()
    more = {} if kind is TabNetPretrainer else {"y": y[:, 1] > 0}
    found = kind(**TINY | {"max_epochs": 2}).fit(x, **more)
    other = kind(**TINY | {"max_epochs": 2}).fit(x * factor + place, **more)
    rows = x * factor + place
    close(found.weights_.variables, other.weights_.variables, 1e-3)
    np.testing.assert_allclose(other.explain(rows)[0], found.explain(x)[0], rtol=1e-2, atol=1e-3)
    other.save(tmp_path)
    again = kind.load(tmp_path)
    np.testing.assert_array_equal(again.explain(rows)[0], other.explain(rows)[0])
    assert again.constant_ == {}
    if kind is TabNetPretrainer:
        np.testing.assert_array_equal(again.reconstruct(rows), other.reconstruct(rows))
        units = (other.reconstruct(rows) - place) / factor
        np.testing.assert_allclose(units, found.reconstruct(x), rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("number", [3e38, -1e16])
def test_numbers_that_networks_cannot_compute_with(regressor, number):
    """They would be predicted as NaN, and a fit would be told to lower its learning rate."""
    x, y = numbers()
    x[3, 1] = number
    message = "column 1, row 3: expected a number between -1e\\+15 and 1e\\+15, found"
    for use in (regressor.predict, lambda x: TabNetRegressor(**TINY).fit(x, y)):
        with pytest.raises(ValueError, match=message):
            use(x)
    with pytest.raises(ValueError, match="column b, row 3"):
        TabNetRegressor(**TINY).fit(pd.DataFrame(x, columns=[*"abcde"]), y)


def test_evaluation_targets_of_another_number():
    x, y = numbers()
    with pytest.raises(ValueError, match="eval_set: y: expected 3 targets, found 1"):
        TabNetRegressor(**TINY).fit(x, y, eval_set=[(x, y[:, 0])])


def test_other_estimators_are_saved_too(tmp_path, regressor, pretrainer):
    x = numbers()[0]
    for model, method in ((regressor, "predict"), (pretrainer, "transform")):
        model.save(tmp_path / method)
        found = type(model).load(tmp_path / method)
        again = pickle.loads(pickle.dumps(model))
        for other in (found, again):
            np.testing.assert_array_equal(getattr(other, method)(x), getattr(model, method)(x))
            np.testing.assert_array_equal(other.explain(x)[0], model.explain(x)[0])
            assert other.get_params() == model.get_params()
        with pytest.raises(UserError, match=f"expected .*{type(model).__name__}|expected .*class"):
            TabNetClassifier.load(tmp_path / method)
    np.testing.assert_array_equal(found.reconstruct(x), pretrainer.reconstruct(x))


def table(rows=120):
    """Numbers, truth, and categories in an order that is not that of their names."""
    generator = np.random.default_rng(0)
    code = generator.integers(0, 3, rows)
    names = pd.Categorical(np.array(["low", "middle", "top"])[code], ["top", "low", "middle"])
    frame = pd.DataFrame(
        {"dose": generator.normal(size=rows), "kind": names, "seen": code > 0,
         "bin": pd.cut(generator.normal(size=rows), [-9, 0, 9])}
    )  # fmt: skip
    return frame, code


@pytest.fixture(scope="module")
def of_table():
    return TabNetClassifier(**TINY | {"max_epochs": 30}, cat_emb_dim=2).fit(*table())


def test_categories_of_pandas_are_embedded(of_table):
    frame, y = table()
    assert of_table.categories_ == {
        1: ["top", "low", "middle"], 3: ["(-9, 0]", "(0, 9]"],
    }  # fmt: skip
    assert of_table.network_.cat_idxs == (1, 3) and of_table.network_.cat_dims == (3, 2)
    assert of_table.score(frame, y) > 0.95 and of_table.get_params()["cat_idxs"] == ()
    assert of_table.feature_importances_.shape == (4,)
    expected = of_table.predict_proba(frame)
    # Values count, whatever a table has their codes to be.
    kinds = frame.kind.cat.reorder_categories(["middle", "top", "low"])
    for changed in (frame.assign(kind=kinds), frame.assign(kind=frame.kind.astype(object))):
        np.testing.assert_array_equal(of_table.predict_proba(changed), expected)
    few = frame[frame.kind == "low"].copy()
    few["kind"] = few.kind.cat.remove_unused_categories()
    np.testing.assert_array_equal(of_table.predict_proba(few), expected[frame.kind == "low"])


def test_codes_are_those_of_columns_that_are_named(of_table):
    frame, y = table()
    codes = frame.assign(kind=frame.kind.cat.codes, bin=frame.bin.cat.codes)
    named = {"cat_idxs": [1, 3], "cat_dims": [3, 2], "cat_emb_dim": 2}
    found = TabNetClassifier(**TINY | {"max_epochs": 30}, **named).fit(codes, y)
    np.testing.assert_array_equal(found.predict_proba(codes), of_table.predict_proba(frame))
    both = TabNetClassifier(**TINY | {"max_epochs": 30}, **named).fit(frame, y)
    np.testing.assert_array_equal(both.predict_proba(frame), of_table.predict_proba(frame))


def test_categories_are_saved(tmp_path, of_table):
    frame, _ = table()
    of_table.save(tmp_path)
    found = TabNetClassifier.load(tmp_path)
    assert found.categories_ == of_table.categories_
    np.testing.assert_array_equal(found.predict_proba(frame), of_table.predict_proba(frame))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.assign(kind="other"), "column kind: expected one of .*, found 'other'"),
        (lambda f: f.assign(kind=None), "column kind: expected a category in every row"),
        (lambda f: f.assign(dose=f.kind), "column dose: expected numbers, as in fit, found categ"),
        (lambda f: f.assign(dose="much"), "column dose: expected numbers, found 'much'"),
        (lambda f: f[["dose", "kind", "seen"]], "feature"),
    ],
)
def test_tables_that_do_not_fit(of_table, change, message):
    with pytest.raises(ValueError, match=message):
        of_table.predict(change(table()[0]))


@pytest.mark.parametrize(
    ("parameters", "change", "message"),
    [
        ({"cat_idxs": [1], "cat_dims": [4]}, lambda f: f, "cat_dims: expected 3 for column 1"),
        ({"cat_emb_dim": [2]}, lambda f: f, "one entry per distinct column"),
        (
            {},
            lambda f: f.assign(kind=f.kind.astype(object)),
            "column kind: expected numbers, found",
        ),
        ({}, lambda f: f.assign(kind=f.kind.where(f.dose > 0)), "column kind: expected a category"),
    ],
)
def test_tables_that_cannot_be_fitted(parameters, change, message):
    frame, y = table()
    with pytest.raises(ValueError, match=message):
        TabNetClassifier(**TINY | parameters).fit(change(frame), y)


def test_data_frames_do_not_warn():
    frame, y = table()
    y = pd.DataFrame({"level": y})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = TabNetClassifier(**TINY, cat_emb_dim=2).fit(frame, y)
        found.predict(frame), found.explain(frame)


@pytest.mark.parametrize("name", ["seed", "optimizer_params", "verbose", "device_name"])
@pytest.mark.parametrize("kind", [TabNetClassifier, TabNetRegressor, TabNetPretrainer])
def test_arguments_of_pytorch_tabnet_are_told(kind, name):
    with pytest.raises(TypeError, match=f"^{kind.__name__}: no argument '{name}': "):
        kind(**{name: 1})
    with pytest.raises(TypeError, match="unexpected keyword argument 'sed'"):
        kind(sed=1)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"X_train": 0, "y_train": 0}, "fit: no argument 'X_train': it is called X"),
        (
            {"max_epochs": 3},
            "fit: no argument 'max_epochs': give it to the estimator: max_epochs=",
        ),
        ({"weights": 1}, "fit: no argument 'weights': it is called sample_weight"),
        ({"eval_metric": ["auc"]}, "fit: no argument 'eval_metric': there is none"),
    ],
)
def test_arguments_of_their_fit_are_told(given, message):
    with pytest.raises(TypeError, match=message):
        TabNetClassifier().fit(**given)


@pytest.mark.parametrize(
    ("kind", "parameters", "message"),
    [
        (TabNetClassifier, {"mask_type": ["sparsemax"]}, "mask_type: expected one of"),
        (TabNetClassifier, {"warm_start": 1}, "warm_start: expected True or False, found 1"),
        (TabNetClassifier, {"cat_idxs": [[0], [1, 2]]}, "cat_idxs: expected a list of integers"),
        (TabNetClassifier, {"n_steps": "3"}, "n_steps: expected an integer"),
        (TabNetRegressor, {"lambda_sparse": None}, "lambda_sparse: expected 0.0 to inf"),
        (TabNetRegressor, {"random_state": "1"}, "seed"),
        (TabNetPretrainer, {"pretraining_ratio": 1}, "pretraining_ratio: expected 0.001 to 0.999"),
        (TabNetPretrainer, {"n_shared_decoder": 0}, "n_independent_decoder and n_shared_decoder"),
    ],
)
def test_kinds_of_parameters_are_checked_before_training(kind, parameters, message):
    x, y = numbers()
    model = kind(**(PRETRAINING if kind is TabNetPretrainer else TINY) | parameters)
    with pytest.raises(ValueError, match=message):
        model.fit(x, y[:, 0] > 0 if kind is TabNetClassifier else y)


def test_tables_of_about_one_size_share_their_programs():
    x, y = numbers()

    def fit(rows, state):
        parameters = TINY | {"max_epochs": 2, "patience": 0, "random_state": state}
        TabNetRegressor(**parameters).fit(x[:rows], y[:rows])

    fit(120, 2)
    with mock.patch.object(reuse.PROGRAMS, "put") as put:
        for rows, state in ((119, 0), (118, 5)):
            fit(rows, state)
    assert not put.called


# Weights stay where they started.
STILL = TINY | {"learning_rate": 1e-12, "max_epochs": 1, "momentum": 0.0}


def test_a_warm_start_goes_on_with_the_weights(regressor):
    x, y = numbers()
    found = copy.deepcopy(regressor).set_params(**STILL, warm_start=True)
    found.fit(3 * x, 2 * y)
    np.testing.assert_array_equal(found.columns_.mean, regressor.columns_.mean)
    np.testing.assert_array_equal(found.columns_.deviation, regressor.columns_.deviation)
    np.testing.assert_array_equal(found.target_scale_, regressor.target_scale_)
    close(found.weights_.variables["params"], regressor.weights_.variables["params"])
    statistics = (
        found.weights_.variables["batch_stats"],
        regressor.weights_.variables["batch_stats"],
    )
    close(*({k: v for k, v in s.items() if k != "initial_norm"} for s in statistics))
    assert len(found.history_["valid_loss"]) == 1


def close(found, expected, rtol=1e-5):
    found, expected = traverse_util.flatten_dict(found), traverse_util.flatten_dict(expected)
    assert found.keys() == expected.keys()
    for path, value in expected.items():
        np.testing.assert_allclose(
            found[path], value, rtol=rtol, atol=1e-4 * rtol, err_msg=str(path)
        )


def test_a_warm_start_on_other_data(regressor):
    x, y = numbers()
    for parameters, (x_of, y_of), message in (
        ({}, (x, y[:, 0]), "number of targets .*3, found 1"),
        ({}, (x[:, :4], y), "number of columns .*5, found 4"),
        ({"n_d": 5}, (x, y), "n_d .*4, found 5"),
    ):
        found = copy.deepcopy(regressor).set_params(warm_start=True, **parameters)
        with pytest.raises(ValueError, match=f"warm_start: expected the {message}"):
            found.fit(x_of, y_of)


def related(rows=120, seed=0):
    """Columns that tell each other, so that hidden ones can be filled in."""
    generator = np.random.default_rng(seed)
    sources = generator.normal(size=(rows, 2))
    columns = 100 + sources @ generator.normal(size=(2, 5)) * 30
    return columns + generator.normal(size=columns.shape)


def test_pretraining_lowers_the_error_below_that_of_means():
    x = related()
    found = TabNetPretrainer(**PRETRAINING | {"max_epochs": 60, "patience": 0}).fit(x)
    valid = found.history_["valid_loss"]
    # What always says the mean gets about half of the five columns.
    assert min(valid) < 0.7 * valid[0] and min(valid) < 2
    again = found.reconstruct(x)
    assert again.shape == x.shape
    assert ((again - x) ** 2).mean() < 0.5 * x.var(0).mean()


@pytest.fixture(scope="module")
def pretrainer():
    return TabNetPretrainer(**PRETRAINING | {"max_epochs": 3}).fit(numbers()[0])


def test_pretraining_describes_rows(pretrainer):
    x = numbers()[0]
    decided = pretrainer.transform(x)
    assert decided.shape == (120, 4) and (decided >= 0).all()
    assert pretrainer.get_feature_names_out().tolist() == [f"tabnetpretrainer{i}" for i in range(4)]
    masks = pretrainer.explain(x)[1]
    np.testing.assert_allclose(masks.sum(2), 1, rtol=1e-5)


@pytest.mark.parametrize(
    "kind", [TabNetRegressor, pytest.param(TabNetClassifier, marks=pytest.mark.slow)]
)
def test_weights_of_the_encoder_are_taken_over(kind, pretrainer):
    x, y = numbers()
    y = y[:, 0] > 1e6 if kind is TabNetClassifier else y
    found = kind(**STILL).fit(x, y, from_unsupervised=pretrainer).weights_.variables
    theirs = pretrainer.weights_.variables
    own = dict(found["params"])
    assert own.pop("final")["kernel"].shape[0] == 4
    close(own, theirs["params"]["encoder"])
    for module in ("splitter", "attention_0", "transformer_0"):
        close(found["batch_stats"][module], theirs["batch_stats"]["encoder"][module])


def test_encoders_that_cannot_be_taken_over(pretrainer):
    x, y = numbers()
    for start, parameters, message in (
        ("model", {}, "from_unsupervised: expected a fitted TabNetPretrainer, found str"),
        (pretrainer, {"n_a": 5}, "from_unsupervised: expected the n_a .*4, found 5"),
        (pretrainer, {"n_independent": 1}, "from_unsupervised: expected the n_independent"),
    ):
        with pytest.raises(ValueError, match=message):
            TabNetRegressor(**TINY | parameters).fit(x, y, from_unsupervised=start)
    with pytest.raises(NotFittedError):
        TabNetRegressor(**TINY).fit(x, y, from_unsupervised=TabNetPretrainer())
    with pytest.raises(ValueError, match="from_unsupervised: expected the number of columns"):
        TabNetRegressor(**TINY).fit(x[:, :4], y, from_unsupervised=pretrainer)


def test_the_last_of_several_tables_decides(pretrainer):
    x, other = numbers(100)[0], numbers(20, seed=1)[0]
    parameters = PRETRAINING | {"max_epochs": 2}
    one, last = (
        TabNetPretrainer(**parameters).fit(x, eval_set=tables).history_
        for tables in (other, [x, other])
    )
    assert one == last != TabNetPretrainer(**parameters).fit(x, eval_set=[x[:20]]).history_
    with pytest.raises(ValueError, match="^eval_set: .*features"):
        TabNetPretrainer(**parameters).fit(x, eval_set=[x[:, :4], x])


def test_hidden_columns_are_not_seen(pretrainer):
    """What stands in them reaches nothing but the targets."""
    x = numbers(6)[0].astype(np.float32)
    hidden = np.zeros_like(x)
    hidden[:, 2] = 1
    variables = dict(pretrainer.weights_.variables)
    first, second = (
        pretrainer.network_.apply(variables, table, hidden)
        for table in (x, np.where(hidden, 50, x).astype(np.float32))
    )
    np.testing.assert_array_equal(first.columns, second.columns)
    np.testing.assert_array_equal(first.hidden, hidden)
    assert (first.targets[:, 2] != second.targets[:, 2]).all()
    seen = pretrainer.network_.apply(variables, x, 0 * hidden)
    assert (seen.columns != first.columns).any()


def test_reconstruction_error_by_hand():
    targets = jnp.array([[1.0, 5.0, 0.0], [3.0, 5.0, 2.0], [9.0, 9.0, 9.0]])
    columns = jnp.array([[2.0, 6.0, 9.0], [9.0, 9.0, 3.0], [0.0, 0.0, 0.0]])
    hidden = jnp.array([[1.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 1.0, 1.0]])
    mask = jnp.array([True, True, False])
    # Deviations of 2 and 2, and none, which count as two rows of 1.
    expected = 1 / 2 + 1 / 2 + 1 / 2
    found = losses.reconstruction_error(columns, targets, hidden, mask)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_sizes_of_tables():
    sizes = {tabnet_inputs.rounded_up(n) for n in range(129, 257)}
    assert sizes == {144, 160, 176, 192, 208, 224, 240, 256}
    assert [tabnet_inputs.rounded_up(n) for n in range(1, 16)] == list(range(1, 16))


def test_models_of_pytorch_tabnet_by_their_arrays(monkeypatch):
    """What the file holds, without PyTorch that reads it."""
    model, given = network("hard"), state_dict("hard")
    stored = {
        **RECIPES["hard"], "seed": 7, "clip_value": None, "lambda_sparse": 0.5, "n_sheep": 3,
    }  # fmt: skip
    names = {str(i): f"class {i:02}" for i in range(20)}
    files = {
        "new": {"init_params": stored, "class_attrs": {"preds_mapper": names}},
        "old": stored,
        "regressor": {"init_params": stored, "class_attrs": {"preds_mapper": None}},
        "grouped": {"init_params": {**stored, "grouped_features": [[0, 1]]}},
        "few": {"init_params": stored, "class_attrs": {"preds_mapper": {"0": 1}}},
        "none": [],
    }
    monkeypatch.setattr(pytorch_tabnet, "read_tabnet_zip", lambda path: (given, files[path]))
    x = np.random.default_rng(0).normal(size=(5, 64)).astype(np.float32)
    single = {name: array.astype(np.float32) for name, array in given.items()}
    logits, _ = model.apply(tabnet_from_torch(single, model), x)
    for path, classes in (("new", list(names.values())), ("old", list(range(20)))):
        found = TabNetClassifier.from_pytorch_tabnet(path)
        np.testing.assert_allclose(found.predict_proba(x), softmax(logits, 1), rtol=1e-4)
        assert found.classes_.tolist() == classes
        assert (found.n_d, found.n_a, found.n_steps, found.lambda_sparse) == (16, 8, 3, 0.5)
        assert found.clip_value is None
    np.testing.assert_allclose(
        TabNetRegressor.from_pytorch_tabnet("regressor").predict(x), logits, rtol=1e-4, atol=1e-5
    )
    for kind, path, message in (
        (TabNetClassifier, "regressor", "regressor: expected a classifier, found a regressor: see"),
        (TabNetRegressor, "new", "new: expected a regressor, found a classifier: see TabNet"),
        (TabNetRegressor, "grouped", "grouped: expected attention to columns, found grouped_feat"),
        (TabNetClassifier, "few", "few: expected 20 classes, found 1"),
        (TabNetClassifier, "none", "none: expected the parameters of a model, found list"),
    ):
        with pytest.raises(UserError, match=f"^{message}"):
            kind.from_pytorch_tabnet(path)
