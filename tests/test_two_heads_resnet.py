"""The 2-heads ResNet's inputs, folds, sizes and rules, its trunk, and what its loop leaks."""

import dataclasses
import json
import zlib
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from systems import built, context, designs

from moa_jax.config import switches
from moa_jax.data import simulate
from moa_jax.data.dataset import ORIGINAL_LEVELS, Dataset, Targets
from moa_jax.models.two_heads import trunk
from moa_jax.recipes import system, two_heads_resnet
from moa_jax.recipes.context import Context
from moa_jax.recipes.features import Arrays
from moa_jax.recipes.system import Fitting
from moa_jax.recipes.two_heads_resnet import LOOP, NONSCORED, ORIGINAL, SCORED
from moa_jax.store import files, transform_files
from moa_jax.store.predictions import Predictions
from moa_jax.training import shapes, weights
from moa_jax.training.initial import initialise
from moa_jax.training.members import cross_validation, member_key
from moa_jax.training.trees import Own, Shared

REFERENCE = Path(__file__).parent / "reference"
COUNTS = json.loads((REFERENCE / "resnet_param_counts.json").read_text())
FOLDS = json.loads((REFERENCE / "resnet_folds.json").read_text())
TINY = {
    "seeds": (0, 1), "folds": 3, "hidden": 16, "batch_size": 16, "epochs": 30, "patience": 0,
    "gene_components": 4, "cell_components": 2, "num_predictors": 10, "loop_epochs": 60,
}  # fmt: skip


def stage_of(rows, config, folder, name, member_data=()):
    """A stage on rows whose transforms are not fitted."""
    design, own = designs(config)[name], context(folder)
    training = Fitting(config, rows, own)
    members = [design.rows(m) for m in cross_validated(training.passage.rows, config)]
    arrays = Arrays(np.zeros((len(rows), 1), np.float32), member_data)
    targets = design.targets(rows)
    return design.stage(own, members, arrays, targets, design.start(own, len(targets.names)))


def cross_validated(rows, config):
    folds = config.split_rows(rows).folds
    return cross_validation(folds, 0, config.select_on)


def treated(**sizes):
    data = simulate.make(test_rows=0, **sizes)
    return data.take(np.flatnonzero(~data.is_control))


@pytest.fixture(scope="module")
def wide():
    return treated(rows=280, genes=772, cells=100, scored=206, nonscored=402)


@pytest.mark.parametrize(("version", "width", "batch"), [("v1", 976, 128), ("v2", 979, 64)])
def test_widths_and_parameters_of_the_original(wide, tmp_path, version, width, batch):
    config = dataclasses.replace(ORIGINAL[version], seeds=(23,), folds=2)
    assert config.features(ORIGINAL_LEVELS).is_listed(wide)
    off = dataclasses.replace(config, freeze_loop="off")
    assert off.notes(wide, context(tmp_path)) == ("There is no freeze loop.",)
    training = Fitting(config, wide, context(tmp_path))
    for name in (NONSCORED, SCORED):
        stage, num_inputs, *_ = training.build(designs(config)[name])
        assert num_inputs == width
        assert stage.batch_size == batch and stage.epochs == 50
        assert stage.targets.shape[1] == {NONSCORED: 402, SCORED: 206}[name]
        first = jax.tree.map(lambda a: a[0], stage.member_data)
        rows = jnp.arange(3)
        inputs = jax.eval_shape(
            lambda own, stage=stage, rows=rows: stage.forward.inputs(
                stage.shared, own, rows, None, False
            ),
            first,
        )
        assert [array.shape for array in inputs] == [(3, width), (3, 447)]
        state = shapes.state(stage)
        sizes = [sum(leaf.size for leaf in jax.tree.leaves(state[i])) for i in (0, 1)]
        expected = COUNTS[f"{version}_{name}"]
        assert sizes == [expected["trainable"], expected["non_trainable"]]


def test_folds_and_steps_of_the_original():
    rows = Dataset(
        np.arange(21_948).astype(str), ("g-0",), (), np.zeros((21_948, 1)),
        np.full(21_948, 24), np.full(21_948, "D1"), np.zeros(21_948, bool),
        Targets(("moa",), np.zeros((21_948, 1), np.uint8)),
    )  # fmt: skip
    members = cross_validated(rows, ORIGINAL["v1"])
    assert len(members) == 70
    for member in members:
        expected = FOLDS[str(member.seed)][member.fold]
        assert len(member.valid_rows) == expected["n_valid"]
        assert (
            zlib.crc32(member.valid_rows.astype("<i8").tobytes()) == expected["crc32_valid_int64"]
        )
        assert member.select_rows is member.valid_rows
    for version, steps in (("v1", 155), ("v2", 309)):
        batch = ORIGINAL[version].batch_size
        last = {19_753: {128: 41, 64: 41}, 19_754: {128: 42, 64: 42}}
        for member in members[:10]:
            count = len(member.train_rows)
            assert -(-count // batch) == steps and count % batch == last[count][batch]


def test_rules_of_the_first_two_stages(wide, tmp_path):
    """Ten epochs without a gain of 1e-5 end a member; four without one of 1e-4 halve its rate."""
    small = wide.take(np.arange(40))
    config = dataclasses.replace(ORIGINAL["v1"], folds=2)
    stages = {name: stage_of(small, config, tmp_path, name) for name in (NONSCORED, SCORED)}
    assert designs(config, nonscored=False)[SCORED].start(context(tmp_path), 1) is None
    for name, stage in stages.items():
        assert not stage.share_init_across_folds
        assert (stage.start is None) == (name == NONSCORED)
        counts = jnp.array([128, 41])
        np.testing.assert_array_equal(stage.valid_weights(counts), counts)
        losses = [1.0, 0.99995, *[0.999945] * 20]
        rate, stop, select, scales, kept = (
            stage.rate.init(), stage.stop.init(), stage.select.init(), [], 0,
        )  # fmt: skip
        for epoch, loss in enumerate(losses, 1):
            rate = stage.rate.update(rate, jnp.float32(loss))
            stop = stage.stop.update(stop, jnp.float32(loss))
            select = stage.select.update(select, jnp.float32(loss))
            kept = epoch if select.better else kept
            scales.append(float(rate.scale))
            if stop.stop:
                break
        assert epoch == 12
        assert scales == [1.0] * 4 + [0.5] * 4 + [0.25] * 4
        # Keras's early stopping restores its own best epoch, the checkpoint the strictly lowest.
        assert kept == {NONSCORED: 2, SCORED: 3}[name]
    logits, targets = jnp.array([[0.0, 2.0]]), jnp.array([[0.0, 1.0]])
    smooth = targets * 0.9995 + 0.00025
    expected = jnp.mean(jnp.logaddexp(0, logits) - logits * smooth)
    found = stages[SCORED].loss(logits, targets, jnp.ones(1, bool))
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert stages[SCORED].valid_loss is None


@pytest.mark.parametrize(
    ("losses", "kept"),
    [
        # It stops: both go back to the best epoch.
        ([1.0, 0.5, *[0.6] * 10], {"if_stopped": 2, "always": 2}),
        # It runs to its end: TensorFlow 2.3 leaves the last epoch's weights.
        ([1.0, 0.5, 0.6, 0.55], {"if_stopped": 4, "always": 2}),
    ],
)
def test_restoring_the_best_epoch_is_a_switch(wide, tmp_path, losses, kept):
    for value, expected in kept.items():
        config = dataclasses.replace(
            ORIGINAL["v1"], folds=2, epochs=max(4, len(losses)), restore_best=value
        )
        assert switches(config)["restore_best"] == value
        select = stage_of(wide.take(np.arange(40)), config, tmp_path / value, NONSCORED).select
        state, found = select.init(), 0
        for epoch, loss in enumerate(losses, 1):
            state = select.update(state, jnp.float32(loss))
            found = epoch if state.better else found
        assert found == expected


def test_rows_and_phases_of_the_loop(wide, tmp_path):
    rows = wide.take(np.arange(40))
    for freeze_loop, scales in (
        ("faithful", [1e-3 / 5]),
        ("intended", [1e-3 / 3, 1e-3 / 5]),
    ):
        config = dataclasses.replace(
            ORIGINAL["v1"], folds=2, freeze_loop=freeze_loop, select_on="holdout"
        )
        stage = stage_of(rows, config, tmp_path, LOOP)
        for member, own in zip(cross_validated(rows, config), stage.members, strict=True):
            for part in (own.train_rows, own.select_rows, own.valid_rows):
                np.testing.assert_array_equal(part, member.valid_rows)
            assert (
                len(member.select_rows) == 2
                and not np.isin(member.select_rows, own.train_rows).any()
            )
        assert stage.validates_start
        state = stage.rate.init()
        found, frozen = [], []
        for _ in range(12):
            if not found or found[-1] != float(state.scale):
                found.append(float(state.scale))
                keywords = stage.keywords(type("State", (), {"rate": state}))
                frozen.append(bool(keywords.get("frozen", False)))
            state = stage.rate.update(state, jnp.float32(1.0))
            if state.stop:
                break
        assert state.stop
        np.testing.assert_allclose(found, scales, rtol=1e-6)
        assert frozen == {"faithful": [False], "intended": [True, False]}[freeze_loop]


def test_switches():
    config = ORIGINAL["v2"]
    assert switches(config) == {
        "predictors": "listed", "select_on": "fold", "restore_best": "if_stopped",
        "freeze_loop": "faithful", "oof": "after_loop", "split": "original", "frequent_above": 18,
    }  # fmt: skip
    honest = config.honest()
    assert switches(honest) == {
        "predictors": "t_test", "select_on": "holdout", "restore_best": "if_stopped",
        "freeze_loop": "faithful", "oof": "before_loop", "split": "auto", "frequent_above": 0,
    }  # fmt: skip
    assert honest.original() == config
    assert config.original() is config and ORIGINAL["v1"] == two_heads_resnet.Config()


def test_predictors_of_a_fold_come_from_its_training_rows(tmp_path):
    """Without all listed names each fold has a choice of its own, equally large."""
    rows = treated(rows=120, genes=30, cells=6, scored=4, nonscored=2)
    config = dataclasses.replace(two_heads_resnet.Config(), **TINY)
    assert not config.features(ORIGINAL_LEVELS).is_listed(rows)
    off = dataclasses.replace(config, freeze_loop="off")
    assert "t-test" in off.notes(rows, context(tmp_path))[1]
    stage = built(config, rows, tmp_path, SCORED)
    data = stage.member_data
    assert data["predictors"].shape == (6, 10) and data["predictors"].dtype == np.int32
    assert len(np.unique(data["predictors"], axis=0)) > 1
    valid = stage.members[0].valid_rows
    labels = rows.scored.values.copy()
    labels[valid] = 1 - labels[valid]
    features = rows.features.copy()
    features[valid] = 0
    changed = dataclasses.replace(
        rows, features=features, scored=Targets(rows.scored.names, labels)
    )
    others = built(config, changed, tmp_path / "changed", SCORED).member_data
    np.testing.assert_array_equal(others["predictors"][0], data["predictors"][0])
    np.testing.assert_allclose(others["scale/mean"][0], data["scale/mean"][0], rtol=1e-6)
    more = dataclasses.replace(config, num_predictors=99)
    widest = built(more, rows, tmp_path / "more", SCORED).member_data
    assert widest["predictors"].shape[1] == 36


def test_stored_transforms_are_not_fitted_again(tmp_path, monkeypatch):
    rows = treated(rows=60, genes=8, cells=3, scored=3, nonscored=2)
    config = dataclasses.replace(two_heads_resnet.Config(), **{**TINY, "num_predictors": 5})
    first = built(config, rows, tmp_path, NONSCORED).member_data
    monkeypatch.setattr(transform_files, "save", None)
    for name in (NONSCORED, SCORED):
        again = built(config, rows, tmp_path, name).member_data
        jax.tree.map(np.testing.assert_array_equal, first, again)


@dataclasses.dataclass(frozen=True)
class Fitted:
    rows: Dataset
    unseen: Dataset
    config: two_heads_resnet.Config
    context: Context
    result: object

    @property
    def folder(self):
        return self.context.folder


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """The recipe on random labels, beside treated rows that it never sees."""
    every = treated(rows=1000, seed=1, genes=30, cells=10, scored=5, nonscored=3)
    labels = (np.random.default_rng(1).random((len(every), 5)) < 0.3).astype(np.uint8)
    every = dataclasses.replace(every, scored=Targets(every.scored.names, labels))
    rows, unseen = every.take(np.arange(300)), every.take(np.arange(300, len(every)))
    config = dataclasses.replace(two_heads_resnet.Config(), **TINY)
    own = context(tmp_path_factory.mktemp("fitted"))
    return Fitted(rows, unseen, config, own, system.fit(config, rows, own))


def test_the_trunk_is_carried_from_stage_to_stage(fitted):
    """All but the head is the earlier member's, with its statistics; the optimiser is new."""
    stage = built(fitted.config, fitted.rows, fitted.folder.parent, SCORED)
    index = 4
    member = stage.members[index]
    path = fitted.folder / NONSCORED / "members" / f"{member.name}.npz"
    earlier = trunk(weights.read(path).variables)
    data = jax.tree.map(lambda a: a[index], stage.member_data)
    own = Own(data, 1, stage.start(member))
    key = jax.random.key_data(member_key(0, member, False))
    state, _ = jax.jit(initialise(stage))(key, own, Shared(stage.shared, stage.targets))
    start = trunk({"params": state.params, "batch_stats": state.batch_stats})
    jax.tree.map(np.testing.assert_array_equal, start, earlier)
    assert all(not np.asarray(leaf).any() for leaf in jax.tree.leaves(state.opt))
    assert state.params["head"]["dense0"]["kernel"].shape == (206, 5)
    # The loop starts from the whole network.
    last = built(fitted.config, fitted.rows, fitted.folder.parent, LOOP).start(member)
    scored = weights.read(fitted.folder / SCORED / "members" / f"{member.name}.npz").variables
    jax.tree.map(np.testing.assert_array_equal, last, scored)


def test_out_of_fold_predictions_of_the_model(fitted):
    before, after = (
        Predictions.read(fitted.folder / name / "oof.parquet") for name in (SCORED, LOOP)
    )
    np.testing.assert_array_equal(fitted.result.oof.values, after.values)
    assert "after the freeze loop" in fitted.result.notes[0]
    for changes, expected in (({"oof": "before_loop"}, before), ({"freeze_loop": "off"}, before)):
        config = dataclasses.replace(fitted.config, **changes)
        # Every stage is finished: this reads files only.
        result = system.fit(config, fitted.rows, fitted.context)
        np.testing.assert_array_equal(result.oof.values, expected.values)
        assert "after the freeze loop" not in result.notes[0]
        assert result.stages == (NONSCORED, SCORED, LOOP)[: 2 if "freeze_loop" in changes else 3]


def row_losses(rows, predicted):
    y, p = rows.scored.values, predicted
    return -(y * np.log(p) + (1 - y) * np.log1p(-p)).mean(axis=1)


def test_the_loop_lowers_the_loss_of_its_own_rows_only(fitted):
    """Labels are random: what the loop gains on the rows it reports is not there elsewhere."""
    fold_scores = [
        [score["score"] for score in files.read_json(path)["fold_scores"]]
        for path in (fitted.folder / name / "metrics.json" for name in (SCORED, LOOP))
    ]
    gains = np.subtract(*fold_scores)
    assert gains.mean() > 0
    before, after = (
        row_losses(fitted.rows, Predictions.read(fitted.folder / name / "oof.parquet").values)
        for name in (SCORED, LOOP)
    )
    assert (after - before).mean() < 0
    unseen = []
    for freeze_loop in ("off", "faithful"):
        config = dataclasses.replace(fitted.config, freeze_loop=freeze_loop)
        predict = system.load(config, fitted.context, fitted.rows.scored.names)
        unseen.append(row_losses(fitted.unseen, predict(fitted.unseen).values))
    change = unseen[1] - unseen[0]
    assert change.any()
    noise = change.std() / np.sqrt(len(change))
    assert abs(change.mean()) < 3 * noise
    assert (after - before).mean() < change.mean() - noise


def test_the_loop_keeps_a_member_without_gain_as_it_was(fitted):
    trained = files.read_json(fitted.folder / LOOP / "metrics.json")["members"]
    names = [f"seed{m['seed']}_fold{m['fold']}" for m in trained]
    unchanged = [n for n, m in zip(names, trained, strict=True) if m["epoch"] == 0]
    assert 0 < len(unchanged) < len(names)
    for name in names:
        before, after = (
            weights.read(fitted.folder / stage / "members" / f"{name}.npz").variables
            for stage in (SCORED, LOOP)
        )
        same = jax.tree.map(np.array_equal, before, after)
        if name in unchanged:
            assert jax.tree.all(same)
        else:
            # The rates hardly move the weights; the statistics are what moves.
            assert not jax.tree.all(same["batch_stats"])
            moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), before, after)
            assert 0 < max(jax.tree.leaves(moved["params"])) < 1e-4
            assert max(jax.tree.leaves(moved["batch_stats"])) > 1e-3
    for name, member in zip(names, trained, strict=True):
        if name in unchanged:
            assert member["epochs_run"] == 4
