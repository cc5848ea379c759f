"""TabNetRegressor, TabNetPretrainer, and what all TabNet estimators take: tables, names, starts."""

import pickle
import warnings

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.utils.estimator_checks import parametrize_with_checks
from test_estimator import NOT_EXACT, TINY

from moa_jax import TabNetClassifier, TabNetPretrainer, TabNetRegressor
from moa_jax.errors import UserError
from moa_jax.estimators import tabnet_inputs
from moa_jax.training import losses, reuse

PRETRAINING = TINY | {"n_shared_decoder": 1, "n_independent_decoder": 0}
# Checks that train little; the others are slow.
QUICK = {
    "check_complex_data", "check_do_not_raise_errors_in_init_or_set_param",
    "check_dont_overwrite_attributes", "check_estimator_sparse_tag", "check_estimators_nan_inf",
    "check_estimators_unfitted", "check_fit2d_1sample", "check_get_params_invariance",
    "check_no_attributes_set_in_init", "check_parameters_default_constructible",
    "check_regressor_multioutput", "check_set_params", "check_supervised_y_2d",
    "check_supervised_y_no_nan", "check_transformers_unfitted",
}  # fmt: skip


@parametrize_with_checks(
    [TabNetRegressor(**TINY), TabNetPretrainer(**PRETRAINING)],
    expected_failed_checks=lambda one: NOT_EXACT if isinstance(one, TabNetRegressor) else {},
)
def test_scikit_learn(estimator, check, request):
    if check.func.__name__ not in QUICK and not request.config.getoption("runslow"):
        pytest.skip("slow; runs with --runslow")
    check(estimator)


def numbers(rows=120, seed=0):
    x = np.random.default_rng(seed).normal(size=(rows, 5))
    return x, np.column_stack([1e6 + 1e3 * x[:, 0], -x[:, 1], np.full(rows, 7.0)])


@pytest.fixture(scope="module")
def regressor():
    x, y = numbers()
    return TabNetRegressor(**TINY | {"max_epochs": 60}).fit(x, y)


def test_several_targets_of_any_scale(regressor):
    x, y = numbers()
    found = regressor.predict(x)
    assert found.shape == y.shape and found.dtype == np.float64
    residual = ((found - y) ** 2).mean(0)[:2] / y.var(0)[:2]
    assert (residual < 0.3).all()
    np.testing.assert_allclose(found[:, 2], 7, atol=1)
    assert regressor.feature_importances_[:2].sum() > 0.6


def test_one_target_is_a_vector_and_a_column_a_column():
    x, y = numbers()
    one = TabNetRegressor(**TINY).fit(x, y[:, 0])
    column = TabNetRegressor(**TINY).fit(x, y[:, :1])
    assert one.predict(x).shape == (120,) and column.predict(x).shape == (120, 1)
    np.testing.assert_array_equal(one.predict(x), column.predict(x)[:, 0])


def test_the_loss_is_the_squared_error_of_standardised_targets():
    x, y = numbers()
    others, other_y = numbers(seed=1)
    weights = np.random.default_rng(1).uniform(0, 3, 120)
    parameters = TINY | {"validation_fraction": 0}
    for fit, (x_of, y_of, w) in {
        "eval_set": (others, other_y, np.ones(120)),
        "weights": (x, y, weights),
    }.items():
        found = TabNetRegressor(**parameters)
        given = {"eval_set": [(x, y), (x_of, y_of)]} if fit == "eval_set" else {"sample_weight": w}
        found.fit(x, y, **given)
        error = (found.predict(x_of) - y_of) / found.target_scale_
        expected = np.average((error**2).mean(1), weights=w)
        assert found.weights_.loss == pytest.approx(expected, rel=1e-4)
        assert min(found.history_["valid_loss"]) == pytest.approx(expected, rel=1e-4)
    np.testing.assert_allclose(found.target_mean_, y.mean(0))
    np.testing.assert_allclose(found.target_scale_, [y[:, 0].std(), y[:, 1].std(), 1])


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
        (np.linspace(-1, 1, 120) * 1e300, "y: expected numbers whose squares can be summed"),
    ],
)
def test_targets_that_cannot_be(y, message):
    with pytest.raises(ValueError, match=message):
        TabNetRegressor(**TINY).fit(numbers()[0], y)


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
    named = {"cat_idxs": [1, 3], "cat_dims": [3, 2], "cat_emb_dim": [2, 2]}
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
        found = TabNetClassifier(**TINY).fit(frame, y, eval_set=[(frame, y)])
        found.predict(frame), found.explain(frame)
        TabNetRegressor(**TINY).fit(frame, y).predict(frame)
        TabNetPretrainer(**PRETRAINING).fit(frame).transform(frame)


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


def test_tables_of_about_one_size_share_their_programs(monkeypatch):
    compiled, put = [], reuse.PROGRAMS.put
    monkeypatch.setattr(
        reuse.PROGRAMS, "put", lambda key, program: (compiled.append(key[0][0]), put(key, program))
    )
    x, y = numbers()
    for rows in (120, 118, 119):
        TabNetRegressor(**TINY).fit(x[:rows], y[:rows])
        assert sorted(compiled) == [f"tabnet: {k}" for k in ("initialise", "train", "validate")]
    TabNetRegressor(**TINY | {"random_state": 5, "max_epochs": 2}).fit(x, y)
    assert len(compiled) == 3
    # A rate is part of the program.
    TabNetRegressor(**TINY | {"learning_rate": 0.2}).fit(x, y)
    assert len(compiled) > 3


def test_a_warm_start_goes_on_with_the_weights(monkeypatch):
    x, y = numbers()
    found = TabNetRegressor(**TINY | {"warm_start": True, "validation_fraction": 0}).fit(x, y)
    first, scale = found.history_["valid_loss"], found.target_scale_
    before = found.weights_.variables["params"]["final"]["kernel"]
    starts = []
    monkeypatch.setattr(TabNetRegressor, "_start", lambda *_: starts.append(1))
    found.fit(x, 2 * y)
    assert not starts
    np.testing.assert_array_equal(found.target_scale_, scale)
    found.set_params(learning_rate=1e-12, max_epochs=1)
    kept = found.weights_.variables["params"]["final"]["kernel"]
    assert (kept != before).any()
    found.fit(x, y)
    np.testing.assert_allclose(found.weights_.variables["params"]["final"]["kernel"], kept)
    assert len(first) > 1


def test_a_warm_start_on_other_data():
    x, y = numbers()
    found = TabNetRegressor(**TINY | {"warm_start": True, "max_epochs": 1}).fit(x, y)
    with pytest.raises(ValueError, match="warm_start: expected the number of targets .*3, found 1"):
        found.fit(x, y[:, 0])
    found = TabNetRegressor(**TINY | {"warm_start": True, "max_epochs": 1}).fit(x, y)
    with pytest.raises(ValueError, match="warm_start: expected the number of columns .*5, found 4"):
        found.fit(x[:, :4], y)
    found = clone(found).fit(x, y).set_params(n_d=5)
    with pytest.raises(ValueError, match="warm_start: expected the n_d .*4, found 5"):
        found.fit(x, y)


def related(rows=200, seed=0):
    """Columns that tell each other, so that hidden ones can be filled in."""
    generator = np.random.default_rng(seed)
    sources = generator.normal(size=(rows, 2))
    columns = 100 + sources @ generator.normal(size=(2, 8)) * 30
    return columns + generator.normal(size=columns.shape)


def test_pretraining_lowers_the_error_below_that_of_means():
    x = related()
    found = TabNetPretrainer(**PRETRAINING | {"max_epochs": 60, "patience": 0, "n_d": 8}).fit(x)
    valid = found.history_["valid_loss"]
    # What always says the mean gets about half of the eight columns.
    assert min(valid) < 0.5 * valid[0] and min(valid) < 2.5
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


@pytest.mark.parametrize("kind", [TabNetClassifier, TabNetRegressor])
def test_weights_of_the_encoder_are_taken_over(kind, pretrainer):
    x, y = numbers()
    y = y[:, 0] > 1e6 if kind is TabNetClassifier else y
    still = TINY | {"learning_rate": 1e-12, "max_epochs": 1, "momentum": 0.0}
    found = kind(**still).fit(x, y, from_unsupervised=pretrainer)
    theirs = pretrainer.weights_.variables["params"]["encoder"]
    own = dict(found.weights_.variables["params"])
    assert own.pop("final")["kernel"].shape[0] == 4
    assert own.keys() == theirs.keys() and "decoder" not in own
    for module, leaves in theirs.items():
        np.testing.assert_allclose(
            own[module]["kernel" if "kernel" in leaves else next(iter(leaves))],
            leaves["kernel" if "kernel" in leaves else next(iter(leaves))],
        )
    kept = found.weights_.variables["batch_stats"]["splitter"]["shared_0_norm"]
    expected = pretrainer.weights_.variables["batch_stats"]["encoder"]["splitter"]["shared_0_norm"]
    np.testing.assert_allclose(kept["mean"], expected["mean"], rtol=1e-6)


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
    x, other = numbers()[0], numbers(seed=1)[0]
    parameters = PRETRAINING | {"max_epochs": 2}
    one, last = (
        TabNetPretrainer(**parameters).fit(x, eval_set=tables).history_
        for tables in (other, [x, other])
    )
    assert one == last != TabNetPretrainer(**parameters).fit(x, eval_set=[x]).history_
    with pytest.raises(ValueError, match="^eval_set: .*features"):
        TabNetPretrainer(**parameters).fit(x, eval_set=[x[:, :4], x])


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
