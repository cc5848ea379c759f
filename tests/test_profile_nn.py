"""Tests of the population of dense networks: draws, lengths, networks, profiles, one alone."""

import dataclasses
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import systems
import toy
from scipy.special import expit, logit, softmax
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from moa_jax.config import RunConfig
from moa_jax.data import simulate
from moa_jax.data.dataset import ORIGINAL_LEVELS, Targets
from moa_jax.engine import run as runs
from moa_jax.errors import UserError
from moa_jax.models import drawn_mlp
from moa_jax.models.drawn_mlp import DrawnMLP, DrawnOutputs
from moa_jax.recipes import profile, profile_nn, system
from moa_jax.recipes.draws import Ranges
from moa_jax.training import members, rules
from moa_jax.training.attribution import mean_gradients
from moa_jax.training.identity import identity
from moa_jax.training.layout import Settings
from moa_jax.training.loop import StageRun, train, validate
from moa_jax.training.means import MEANS
from moa_jax.training.members import Member
from moa_jax.training.parallel import Devices
from moa_jax.training.predict import predict as predict_rows

NO_RATES = dict.fromkeys(("input_noise", "input_dropout", "dropout", "label_smoothing"), 0.0)


@pytest.fixture(scope="module")
def dataset():
    data = simulate.make(rows=90, seed=3, genes=8, cells=4, scored=3, nonscored=0, test_rows=6)
    often = (data.features[:, :3] > 0.3) & ~data.is_control[:, None]
    return dataclasses.replace(data, scored=Targets(data.scored.names, often.astype(np.uint8)))


def small(**fields):
    recipe = systems.tiny("profile_nn").models["profile_nn"]
    return dataclasses.replace(recipe, **fields)


def test_a_member_draws_the_same_whoever_else_there_is():
    ranges = Ranges()
    few, many = profile_nn.Config(members=8), profile_nn.Config(members=256)
    assert [few.draw(n) for n in range(8)] == [many.draw(n) for n in range(8)]
    assert len({ranges.drawn(n) for n in range(64)}) == 64
    assert ranges.drawn(0) != Ranges(draw_seed=1).drawn(0) != ranges.drawn(0, group=1)


def test_draws_fill_their_ranges():
    ranges = Ranges()
    every = [ranges.drawn(n) for n in range(400)]
    for name in every[0]._fields:
        low, high = getattr(ranges, name)
        values = np.array([getattr(draw, name) for draw in every])
        values = values[values > 0]
        assert low <= values.min() and values.max() <= high
        middle = np.sqrt(low * high) if low else (low + high) / 2
        assert 0.4 < (values < middle).mean() < 0.6, name
    assert 0.4 < np.mean([draw.label_smoothing > 0 for draw in every]) < 0.6
    config = profile_nn.Config(epoch_steps=100)
    assert [config.whole_epochs(steps) for steps in (1, 149, 150, 3000)] == [1, 1, 2, 30]


def test_eight_members_of_a_group_lie_in_the_eighths_of_every_range():
    ranges = Ranges()
    for first in (0, 8):
        every = [ranges.drawn(n, group=3) for n in range(first, first + 8)]
        for name in every[0]._fields[:-1]:
            bounds, values = getattr(ranges, name), [getattr(draw, name) for draw in every]
            # Zero is the lower end of ranges that are not drawn from by their logarithm.
            low, high, *values = np.log([*bounds, *values]) if bounds[0] else [*bounds, *values]
            places = (np.array(values) - low) / (high - low)
            assert sorted((places * 8).astype(int)) == list(range(8)), name
    orders = {tuple(np.argsort(column)) for column in np.array(every).T}
    assert len(orders) == len(every[0])


@pytest.mark.parametrize("mean", MEANS)
def test_what_a_mean_is_of_can_be_said(mean):
    """Else the choice decides, which begins with probabilities."""
    assert profile_nn.Config(mean=mean).means == (MEANS[mean],)
    assert [one.name for one in profile_nn.Config().means] == ["probabilities", "log_odds"]


def test_linear_members_draw_a_ridge_and_a_length_alone():
    recipe = profile_nn.Config(members=8, inputs=("standard",) * 2, widths=(9, 9), depths=(0, 1))
    linear, network = recipe.draw(4), recipe.draw(5)
    assert linear.ridge and linear.learning_rate == 1e-2
    assert not any([linear.weight_decay, linear.dropout, *linear[5:]])
    assert network.ridge and network.weight_decay and network.dropout
    names = [design.name for design in recipe.stages(ORIGINAL_LEVELS, False)]
    assert names == ["standard_linear", "standard_9x1"]


def test_members_are_dealt_to_groups_the_longest_first():
    recipe = profile_nn.Config(members=13)
    dealt = [recipe.dealt(group) for group in range(len(recipe.inputs))]
    assert sorted(sum(dealt, [])) == list(range(13))
    for own in dealt:
        steps = [recipe.draw(member).steps for member in own]
        assert len(own) in (2, 3) and steps == sorted(steps, reverse=True)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"steps": (20, 10)}, r"steps: expected the lower end first, found \(20, 10\)"),
        ({"widths": (8, 8)}, "widths: expected 3 values, one for each of inputs, found 2"),
        (
            {"inputs": ("standard",) * 3, "widths": (8,) * 3, "depths": (1,) * 3},
            "inputs: expected groups that differ",
        ),
        ({"nested": True, "folds": 2}, "folds: expected at least 3 with nested=true, found 2"),
        ({"select_on": "last", "patience": 2}, "patience: expected 0 with select_on=last"),
    ],
)
def test_mistakes(fields, message, dataset):
    with pytest.raises(UserError, match=message):
        small(**fields).check(dataset)
    with pytest.raises(UserError, match=f"^config.models.mine: {message}"):
        runs.check(RunConfig({"mine": small(**fields)}), dataset)


def test_the_network_computes_what_numpy_does():
    with jax.enable_x64(True):
        generator = np.random.default_rng(0)
        x, network = generator.normal(size=(5, 4)), DrawnMLP((6, 3), 2)
        rates = {name: jnp.asarray(value) for name, value in NO_RATES.items()}
        variables = network.init(jax.random.key(0), x, rates)
        params = jax.tree.map(
            lambda a: a + 0.1 * generator.normal(size=a.shape), variables["params"]
        )
        variables = {**variables, "params": params}
        found = network.apply(variables, x, rates | {"label_smoothing": jnp.asarray(0.2)})
        h = x
        for name in ("dense1", "dense2"):
            h = h @ params[name]["kernel"] + params[name]["bias"]
            h = (h - h.mean(1, keepdims=True)) / np.sqrt(h.var(1, keepdims=True) + 1e-5)
            h = h * expit(h)
        expected = h @ params["output"]["kernel"] + params["output"]["bias"]
        np.testing.assert_allclose(found.logits, expected, rtol=1e-12)
        np.testing.assert_array_equal(found.smoothing, np.full((5, 1), 0.2))
        trained = network.apply(
            variables, x, rates, train=True, rngs={"dropout": jax.random.key(1)}
        )
        np.testing.assert_allclose(trained.logits, expected, rtol=1e-12)
        variables["batch_stats"] = {"exclusive": jnp.ones(())}
        found = network.apply(variables, x, rates)
        np.testing.assert_allclose(expit(found.logits), softmax(expected, axis=1), rtol=1e-12)


def test_exclusive_labels_keep_their_precision():
    """A sure network tells how sure, and its loss has a gradient; so does one of equal logits."""
    logits = jnp.array([[40.0, 0.0, 5.0], [2.0, 2.0, 2.0], [-200.0, 200.0, 0.0]])
    found = drawn_mlp.against_others(logits)
    np.testing.assert_allclose(found[0], [40 - np.log1p(np.exp(5)), -40, -35], rtol=1e-5)
    np.testing.assert_allclose(found[1], [-np.log(2)] * 3, rtol=1e-5)
    slopes = jax.grad(lambda z: drawn_mlp.against_others(z)[jnp.arange(3), jnp.arange(3)].sum())
    assert np.isfinite(slopes(logits)).all()
    np.testing.assert_allclose(slopes(logits)[1], [-0.5, 1, -0.5], rtol=1e-5)


def test_labels_that_exclude_each_other_are_found_by_a_members_rows(tmp_path, dataset):
    of_one = np.eye(3, dtype=np.uint8)[np.arange(len(dataset)) % 3]
    alike = dataclasses.replace(dataset.scored, values=of_one)
    exclusive = dataclasses.replace(dataset, scored=alike)
    stage = systems.built(small(), exclusive, tmp_path / "one", "standard_8x1")
    group = StageRun(
        stage, tmp_path, Settings(Devices.available("vmap"), members_at_once=2), None
    ).group(0)
    found = np.asarray(group.predict(group.init(), np.arange(10)))
    np.testing.assert_allclose(found.sum(-1), 1, rtol=1e-5)
    assert all(stage.start(m)["batch_stats"]["exclusive"] == 1 for m in stage.members)
    # A second label of one row is known to the members that train on it.
    of_one[np.flatnonzero(~exclusive.is_control)[0]] = 1
    stage = systems.built(small(), exclusive, tmp_path / "two", "standard_8x1")
    for member in stage.members:
        expected = 0 not in member.train_rows
        assert stage.start(member)["batch_stats"]["exclusive"] == expected


def test_groups_of_one_shape_are_one_program(tmp_path, dataset):
    recipe = small(inputs=("standard", "rank_gauss", "standard"), widths=(8, 8, 9), depths=(1,) * 3)
    designs = recipe.stages(ORIGINAL_LEVELS, False)
    context = systems.context(tmp_path)
    found = []
    for design, built in zip(designs, system.outline(recipe, dataset, context), strict=True):
        stage, network = built.stage.definition, built.stage.forward.network
        explain = mean_gradients(network, design.reading(network), 2)
        predict = predict_rows(stage.forward)
        found.append([identity(one) for one in (train(stage), validate(stage), predict, explain)])
    alike, other, wider = found
    assert alike == other and not set(alike) & set(wider)


@pytest.mark.parametrize("rate", ["input_noise", "input_dropout", "dropout"])
def test_every_rate_disturbs_training_alone(rate):
    network, x = DrawnMLP((16,), 2), jnp.ones((4, 8)) * jnp.arange(8.0)
    rates = {name: jnp.asarray(value) for name, value in NO_RATES.items()}
    variables = network.init(jax.random.key(0), x, rates)

    def logits(rates, train):
        keys = {"dropout": jax.random.key(1)} if train else {}
        return network.apply(variables, x, rates, train=train, rngs=keys).logits

    high = rates | {rate: jnp.asarray(0.5)}
    np.testing.assert_array_equal(logits(high, False), logits(rates, False))
    assert (logits(high, True) != logits(rates, True)).any()


def test_nothing_disturbs_a_linear_network():
    """It draws no numbers, which would be most of what its steps take."""
    network, x = DrawnMLP((), 2), jnp.arange(12.0).reshape(3, 4)
    rates = {name: jnp.asarray(0.5) for name in NO_RATES}
    variables = network.init(jax.random.key(0), x, rates)
    trained = network.apply(variables, x, rates, train=True)
    np.testing.assert_array_equal(trained.logits, network.apply(variables, x, rates).logits)


@pytest.mark.parametrize(("rate", "input_rate"), [(0.3, 0.0), (0.0, 0.3)])
def test_dropout_keeps_the_mean(rate, input_rate):
    class Seen(DrawnMLP):
        def __call__(self, x, rate):
            return self._dropped(x, rate)

    share = rate or input_rate
    found = Seen((), 1).apply(
        {}, jnp.ones((300, 300)), jnp.asarray(share), rngs={"dropout": jax.random.key(0)}
    )
    assert np.isclose(np.mean(np.asarray(found) == 0), share, atol=0.01)
    assert np.isclose(np.mean(found), 1, atol=0.01)


def test_profiles(dataset):
    values = dataset.features.copy()
    values[0, 0] = 1e6
    scaled = StandardScaler().fit_transform(values).clip(-8, 8)
    found = profile_nn.PopulationProfile("standard", 5).columns(values, 8, profile.Steps(90))
    np.testing.assert_allclose(found, scaled)
    assert found.max() == 8
    found = profile_nn.PopulationProfile("components", 5).columns(values, 8, profile.Steps(90))
    expected = PCA(5, whiten=True).fit_transform(scaled).clip(-8, 8)
    # scikit-learn divides by N - 1, and a component's sign is arbitrary.
    expected *= np.sqrt(len(values) / (len(values) - 1))
    np.testing.assert_allclose(abs(found), abs(expected).clip(0, 8), rtol=1e-6)
    ranked = profile_nn.PopulationProfile("rank_gauss", 5).columns(values, 8, profile.Steps(90))
    np.testing.assert_array_equal(np.argsort(ranked[:, 2]), np.argsort(values[:, 2]))


def test_stretches_are_passes_over_the_rows_one_after_another():
    rows = np.arange(10, 17)
    member = Member(0, 0, rows, rows, rows)
    parts = [members.stretch(5, member, number, 4, False) for number in range(7)]
    joined = np.concatenate(parts)
    for number in range(4):
        expected = members.epoch_order(5, member, number, False)
        np.testing.assert_array_equal(joined[7 * number : 7 * (number + 1)], expected)
    assert len(members.stretch(5, member, 3, 50, False)) == 50


def test_the_latest_epoch_is_kept_whatever_its_loss():
    rule = rules.latest()
    state = rule.init()
    for loss in (1.0, 2.0, 1.5):
        state = rule.update(state, jnp.float32(loss))
        assert bool(state.better) and float(state.loss) == loss


def run(stage, folder, at_once=1):
    settings = Settings(devices=Devices.available("vmap"), members_at_once=at_once)
    StageRun(stage, folder, settings, None).fit()
    return {path.name: path.read_bytes() for path in (folder / "members").iterdir()}


def test_a_member_ends_after_its_own_steps(tmp_path):
    """Two epochs of one schedule among longer ones are those of a stage of two epochs."""
    lengths = {0: 2, 1: 4, 2: 3}
    stage = dataclasses.replace(
        toy.stage(folds=3, seeds=(0,), epochs=4),
        own_epochs=lambda member: lengths[member.fold],
        epoch_steps=3,
        select=rules.latest(),
    )
    apart = run(stage, tmp_path / "apart")
    together = StageRun(
        stage, tmp_path / "x", Settings(Devices.available("vmap"), members_at_once=3), None
    ).group(0)
    state = together.init()
    for epoch in range(4):
        state, _ = together.validate(together.train_steps(state, epoch))
        ended = [epoch + 1 >= lengths[m.fold] for m in together.members]
        assert together.slots.unpad(state.active).tolist() == [not end for end in ended]
    assert together.slots.unpad(state.step).tolist() == [6, 12, 9]
    for fold, epochs in lengths.items():
        alike = dataclasses.replace(stage, own_epochs=None, epochs=epochs)
        name = f"seed0_fold{fold}.npz"
        assert run(alike, tmp_path / str(fold))[name] == apart[name]


@pytest.mark.parametrize("select_on", ["holdout", "last"])
def test_a_member_alone_is_the_same_as_in_the_population(tmp_path, dataset, select_on):
    recipe = small(select_on=select_on)
    name = recipe.stages(ORIGINAL_LEVELS, False)[0].name
    stage = systems.built(recipe, dataset, tmp_path, name)
    inside = run(stage, tmp_path / "inside")
    number = len(stage.members) - 1
    alone = dataclasses.replace(
        stage,
        members=stage.members[number:],
        member_data=jax.tree.map(lambda a: np.asarray(a)[number:], stage.member_data),
    )
    found = run(alone, tmp_path / "alone")
    (only,) = found
    assert only == f"{stage.members[number].name}.npz" and found[only] == inside[only]


def test_outputs_start_at_the_share_of_positive_training_rows(tmp_path, dataset):
    stage = systems.built(small(), dataset, tmp_path, "standard_8x1")
    for member in stage.members:
        bias = stage.start(member)["params"]["output"]["bias"]
        shares = stage.targets[member.train_rows].mean(0).clip(1e-4, 1 - 1e-4)
        np.testing.assert_allclose(bias, logit(shares), rtol=1e-5)
    group = StageRun(
        stage, tmp_path, Settings(Devices.available("vmap"), members_at_once=2), None
    ).group(0)
    found = group.predict(group.init(), np.arange(10))
    shares = stage.targets[stage.members[0].train_rows].mean(0)
    np.testing.assert_allclose(found[0], np.tile(shares, (10, 1)), atol=0.1)


def test_members_have_their_own_rates(tmp_path, dataset):
    """Kernels decay at a member's own rate and at no other; biases do not."""
    recipe = small()
    stage = systems.built(recipe, dataset, tmp_path, "standard_8x1")
    params = {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)}
    for number, member in enumerate(stage.members):
        data = jax.tree.map(lambda a, n=number: jnp.asarray(a)[n], stage.member_data)
        draw = recipe.draw(member.seed)
        optimizer = stage.optimizer(jnp.int32(10), jnp.float32(1), data)
        nothing = jax.tree.map(jnp.zeros_like, params)
        state = optimizer.init(params)
        _, state = optimizer.update(nothing, state, params)  # step 1 is the peak of ten
        updates, _ = optimizer.update(nothing, state, params)
        rate = -float(updates["kernel"][0, 0]) / draw.weight_decay
        assert 0.9 * draw.learning_rate < rate <= 1.001 * draw.learning_rate
        assert not updates["bias"].any()
        assert stage.total_steps(member) == 4 * recipe.whole_epochs(draw.steps)


def test_a_linear_members_ridge_is_that_of_a_logistic_regression(tmp_path, dataset):
    """Trained long, it is scikit-learn's with C = all rows / (ridge training rows)."""
    recipe = small(
        inputs=("standard",), widths=(8,), depths=(0,), members=1, steps=(1000, 1000),
        epoch_steps=1000, learning_rate=(1e-2, 3e-2), ridge=(10, 10), batch_size=64,
    )  # fmt: skip
    stage = systems.built(recipe, dataset, tmp_path, "standard_linear")
    stage = dataclasses.replace(stage, members=stage.members[:1])
    group = StageRun(
        stage, tmp_path, Settings(Devices.available("vmap"), members_at_once=1), None
    ).group(0)
    state = group.train_steps(group.init(), 0)
    state, _ = group.validate(state)
    found = np.asarray(group.predict(state, np.arange(len(stage.targets))))[0]
    rows = stage.members[0].train_rows
    x, strength = np.asarray(stage.shared)[:, 0], len(stage.targets) / (10 * len(rows))
    for label, labels in enumerate(stage.targets[rows].T):
        fitted = LogisticRegression(C=strength, tol=1e-8).fit(x[rows], labels)
        np.testing.assert_allclose(found[:, label], fitted.predict_proba(x)[:, 1], atol=0.01)


def test_a_ridge_is_weighed_against_known_labels_alone():
    recipe, known = profile_nn.Config(), np.ones((8, 3), bool)
    known[::2] = False
    of = {
        name: recipe.stage((), np.zeros(cells.shape), name="", forward=None, shared=None, known=k)
        for name, cells, k in (("masked", known, known), ("half", known[1::2], None))
    }
    draws = {"learning_rate": 0.1, "weight_decay": 0.0, "ridge": 2.0}
    params = {"output": {"kernel": jnp.ones((2, 3))}}
    added = []
    for stage in of.values():
        own = SimpleNamespace(draws=jax.tree.map(jnp.float32, draws))
        optimizer = stage.optimizer(jnp.int32(10), jnp.float32(1), own)
        _, state = optimizer.update(
            jax.tree.map(jnp.zeros_like, params), optimizer.init(params), params
        )
        added.append(np.asarray(optax.tree_utils.tree_get(state, "mu")["output"]["kernel"]))
    np.testing.assert_allclose(added[1], 0.1 * 2.0 / 4 / 3, rtol=1e-6)
    np.testing.assert_array_equal(*added)


def test_the_loss_smooths_by_the_member():
    stage = profile_nn.Config().stage((), None, name="", forward=None, shared=None)
    outputs = DrawnOutputs(jnp.full((2, 1), 2.0), jnp.full((2, 1), 0.5))
    targets, mask = jnp.array([[1.0], [0.0]]), jnp.ones(2, bool)
    p = expit(2.0)
    expected = -np.mean(
        [0.75 * np.log(p) + 0.25 * np.log(1 - p), 0.25 * np.log(p) + 0.75 * np.log(1 - p)]
    )
    assert float(stage.loss(outputs, targets, mask)) == pytest.approx(expected, rel=1e-6)
    hard = -np.mean([np.log(p), np.log(1 - p)])
    assert float(stage.valid_loss(outputs, targets, mask)) == pytest.approx(hard, rel=1e-6)


def test_groups_of_the_same_inputs_share_their_transforms(dataset, tmp_path):
    recipe = small()
    first, *_, last = recipe.stages(ORIGINAL_LEVELS, False)
    assert (first.name, last.name) == ("standard_8x1", "components_4x1")
    assert last.features.profile_of == "components_8x2" and first.features.profile_of is None
    widths = systems.widths_of(recipe, dataset, tmp_path)
    assert widths["components_8x2"] == widths["components_4x1"] < widths["standard_8x1"]
    assert list(widths) == [design.name for design in recipe.stages(ORIGINAL_LEVELS, False)]
    assert [*system.LastStage([first, last]).designs] == [last]
