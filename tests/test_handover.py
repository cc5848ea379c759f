"""What a configuration says reaches what is trained, and what belongs to one stays with it."""

import dataclasses
import types

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
import toy
from systems import designs

from moa_jax import config as configuration
from moa_jax.command import inference
from moa_jax.config import BlendConfig, DataConfig, PredictionFiles, RunConfig
from moa_jax.data import simulate
from moa_jax.data.dataset import ORIGINAL_LEVELS, Targets
from moa_jax.deepinsight import inputs
from moa_jax.deepinsight.feature_map import FeatureMap
from moa_jax.engine import explanation, prediction, run
from moa_jax.errors import UserError
from moa_jax.estimators.tabnet_classifier import TabNetClassifier
from moa_jax.models.mlp import MLP, TwoLayerMLP
from moa_jax.recipes import RECIPES, deepinsight_cnn, profile, three_stage_nn, two_heads_resnet
from moa_jax.recipes.dense import DenseTraining
from moa_jax.recipes.profile import Steps
from moa_jax.report import original
from moa_jax.store import files
from moa_jax.store.predictions import Predictions
from moa_jax.store.workdir import Workdir
from moa_jax.training import checkpoints, predict
from moa_jax.training.checkpoints import Checkpoints, Position
from moa_jax.training.layout import Settings
from moa_jax.training.loop import StageRun
from moa_jax.training.members import MemberId, cross_validation
from moa_jax.training.parallel import Devices
from moa_jax.training.stage import Forward, by_row
from moa_jax.training.trees import Finished, Prediction, PredictionShared


def stage_of(config):
    """A stage of this configuration, without rows."""
    return config.stage(name="", forward=None, members=(), shared=None, targets=None)


def moves(stage, gradients, weight=1.0, steps=4):
    """The updates of one weight under these gradients, and the optimiser's last state."""
    optimizer = stage.optimizer(jnp.int32(steps), jnp.ones(()))
    weight = jnp.full(1, weight)
    state, found = optimizer.init(weight), []
    for gradient in gradients:
        update, state = optimizer.update(jnp.full(1, gradient), state, weight)
        found.append(float(update[0]))
    return found, state


def test_fields_reach_a_dense_stage():
    assert moves(stage_of(DenseTraining(weight_decay=0.0)), [0.0])[0] == [0.0]
    assert moves(stage_of(DenseTraining(weight_decay=1.0)), [0.0])[0][0] < 0

    logits, targets, mask = jnp.full((1, 1), -100.0), jnp.zeros((1, 1)), jnp.ones(1, bool)
    for smooth, valid in ((False, 0.0), (True, 25.0)):
        stage = stage_of(DenseTraining(label_smoothing=0.5, smooth_validation=smooth))
        assert float(stage.loss(logits, targets, mask)) == pytest.approx(25.0)
        assert float(stage.valid_loss(logits, targets, mask)) == pytest.approx(valid, abs=1e-6)
    other = stage_of(DenseTraining(loss="log_loss_epsilon", label_smoothing=0.0))
    for loss in (other.loss, other.valid_loss):
        assert float(loss(-logits, targets, mask)) == pytest.approx(34.54, abs=0.01)

    rule = stage_of(DenseTraining(patience=2)).stop
    state, ends = rule.init(), []
    for _ in range(3):
        state = rule.update(state, jnp.ones(()))
        ends.append(bool(state.stop))
    assert ends == [False, False, True]


def test_the_dense_networks_cycle_beta1():
    """The first moment after a gradient of 1 is 1 minus the first beta 1."""
    _, state = moves(stage_of(DenseTraining(weight_decay=0.0)), [1.0], steps=100)
    moments = [leaf for leaf in jax.tree.leaves(state) if jnp.shape(leaf) == (1,)]
    assert float(moments[0][0]) == pytest.approx(1 - 0.95, rel=1e-5)


@pytest.mark.parametrize(("network", "rates"), [(MLP, (0.1, 0.2, 0.3)), (TwoLayerMLP, (0.1, 0.2))])
def test_every_layer_of_the_mlp_has_its_own_dropout(network, rates):
    found = []

    def note(call, arguments, keywords, context):
        if isinstance(context.module, nn.Dropout):
            found.append(context.module.rate)
        return call(*arguments, **keywords)

    with nn.intercept_methods(note):
        jax.eval_shape(network(4, 2, rates).init, jax.random.key(0), jnp.zeros((2, 3)))
    assert tuple(found) == rates


def test_half_period_decides_the_schedule_of_the_image_networks():
    """Without a gradient the decay moves a weight by as much as the rate says."""
    config = deepinsight_cnn.Config(half_period=2, epochs=8, weight_decay=0.1)
    found, _ = moves(stage_of(config), [0.0] * 8, steps=8)
    assert [epoch for epoch, move in enumerate(found) if move == 0] == [2, 6]


def test_image_networks_clip_with_an_epsilon_of_their_own():
    """A gradient as long as the limit is halved by an epsilon as large as both."""
    config = deepinsight_cnn.Config(epochs=4, clip_norm=1e-5, weight_decay=0.0)
    (found,), _ = moves(stage_of(config), [1e-5])
    assert found == pytest.approx(-config.learning_rate * 1e-5 / 2, rel=1e-4)


def test_image_networks_are_validated_by_row_and_start_apart():
    stage = stage_of(deepinsight_cnn.Config())
    assert stage.valid_weights is by_row and not stage.share_init_across_folds


def test_swap_noise_has_the_fields_of_its_recipe():
    config = deepinsight_cnn.Config(swap_probability=0.3, swap_portion=0.2)
    features = config.features(ORIGINAL_LEVELS)
    assert (features.swap_probability, features.swap_portion) == (0.3, 0.2)


@pytest.fixture(scope="module")
def rows():
    return simulate.make(rows=60, genes=7, cells=3, scored=3, nonscored=2, test_rows=9, seed=1)


class Seen:
    """A transform that keeps the rows it is fitted on."""

    def fit(self, values):
        self.values = values
        return self

    def transform(self, values):
        return values

    def width(self, shape):
        return shape[1]


def test_what_is_fitted_on_training_rows_alone_does_not_know_test_rows(rows):
    class Both:
        def columns(self, values, num_genes, steps):
            return steps("all", Seen, steps("alone", Seen, values, on_train_alone=True))

    fitted = profile.fit(Both(), rows, rows.test)
    np.testing.assert_array_equal(fitted["alone"].values, rows.features)
    every = np.concatenate([rows.features, rows.test.features])
    np.testing.assert_array_equal(fitted["all"].values, every)


def test_profile_of_the_three_stage_nn_has_the_sizes_of_its_fields(rows):
    sizes = {"gene_factors": 2, "cell_factors": 3, "gene_umap": 4, "cell_umap": 5}
    found = {}

    class Recorder(Steps):
        def __call__(self, name, new, values, on_train_alone=False):
            found[name] = new().parameters().get("num_components")
            return values

    described = three_stage_nn.ThreeStageProfile(three_stage_nn.FeaturesConfig(**sizes))
    described.columns(rows.features, len(rows.genes), Recorder())
    assert found == {**sizes, "rank_gauss": None}


def test_columns_are_placed_by_their_scaled_values(rows):
    table = inputs.raw_table(rows, ORIGINAL_LEVELS)
    fitted = inputs.fit_fold(table, deepinsight_cnn.Config(embedding="pca").placement)
    placed, scaled = fitted["map"], fitted["scale"].transform(table)
    expected = FeatureMap("pca").fit(scaled)
    np.testing.assert_array_equal(placed.pixels(8), expected.pixels(8))
    assert (placed.pixels(8) != FeatureMap("pca").fit(table).pixels(8)).any()


def test_members_of_the_two_heads_network_have_sets_of_their_own():
    features = two_heads_resnet.Config().features(ORIGINAL_LEVELS)
    every = [MemberId(seed, fold) for seed in (0, 1) for fold in (0, 1)]
    assert len({features.set_of(member) for member in every}) == 4


def test_the_loop_restarts_where_a_phase_ends():
    config = two_heads_resnet.Config()
    stage = config.loop_stage(name="", forward=None, members=(), shared=None, targets=None)
    for restart in (True, False):
        state = types.SimpleNamespace(rate=types.SimpleNamespace(restart=restart))
        assert stage.restarts(state) is restart


def group_of(stage, folder):
    settings = Settings(devices=Devices.available("vmap"), members_at_once=len(stage.members))
    return StageRun(stage, folder, settings, None).group(0)


def share_of_targets(outputs, targets, mask):
    return jnp.sum(targets.mean(1) * mask) / jnp.sum(mask)


def test_rules_see_the_validation_loss_of_the_rows_that_decide(tmp_path):
    folds = np.arange(toy.ROWS) % 2
    stage = dataclasses.replace(
        toy.stage(folds=2, seeds=(0,)),
        members=tuple(cross_validation({0: folds}, 0, "holdout")),
        valid_loss=share_of_targets,
        valid_weights=by_row,
    )
    group = group_of(stage, tmp_path)
    _, report = group.validate(group.init())
    expected = [stage.targets[member.select_rows].mean() for member in stage.members]
    np.testing.assert_allclose(report.valid_loss, expected, rtol=1e-6)


def test_the_training_loss_is_the_mean_over_an_epochs_batches(tmp_path):
    def constant(outputs, targets, mask):
        return 0.5 + 0 * outputs[0].sum()

    stage = dataclasses.replace(toy.stage(folds=2, seeds=(0,)), loss=constant)
    group = group_of(stage, tmp_path)
    _, report = group.validate(group.train_steps(group.init(), 0))
    np.testing.assert_allclose(report.train_loss, 0.5, rtol=1e-6)


def test_what_is_predicted_has_no_noise():
    """Neither swapped columns nor another augmentation of training."""
    x, _ = toy.data()
    asked = []

    def inputs(shared, data, rows, key, train):
        asked.append(train)
        return (shared[rows],)

    network = toy.Network()
    variables = jax.eval_shape(network.init, jax.random.key(0), x[:2])
    forward = Forward(network, inputs, lambda outputs: jax.nn.sigmoid(outputs[0]))
    own = Prediction(Finished(variables, ()), jnp.zeros((3, 8), jnp.int32))
    jax.eval_shape(predict.predict(forward), (), own, PredictionShared(x, np.int32(3)))
    assert set(asked) == {False}


def test_a_changed_number_in_a_checkpoint_is_noticed(tmp_path, monkeypatch, caplog):
    state = {"weight": np.arange(3.0)}
    template = {"weight": jax.ShapeDtypeStruct((3,), np.float64)}
    for number, seen in ((1, checkpoints._crc32), (2, lambda arrays, described: 1)):
        with monkeypatch.context() as patch, Checkpoints(tmp_path / "saved") as saved:
            patch.setattr(checkpoints, "_crc32", seen)
            saved.save(Position(0, number, 0), state)
    with Checkpoints(tmp_path / "saved") as saved:
        position, found = saved.restore(lambda position: template)
    assert position.epoch == 1 and "damaged checkpoint is left out" in caplog.text
    np.testing.assert_array_equal(found["weight"], state["weight"])


def test_the_classifier_scales_by_its_training_rows_alone():
    x = np.arange(40.0).reshape(20, 2)
    y = np.arange(20) % 2
    found = TabNetClassifier(n_d=2, n_a=2, n_steps=1, max_epochs=1).fit(
        x[:12], y[:12], eval_set=(x[12:], y[12:])
    )
    np.testing.assert_allclose(found.columns_.mean, x[:12].mean(0), rtol=1e-12)
    np.testing.assert_allclose(found.columns_.deviation, x[:12].std(0), rtol=1e-12)
    found.fit(x, y)
    train, _ = found._held_out(len(x), y)
    assert len(train) < len(x)
    np.testing.assert_allclose(found.columns_.deviation, x[train].std(0), rtol=1e-12)


def test_every_part_of_the_data_is_in_their_fingerprint(rows):
    def other(value):
        if isinstance(value, Targets):
            return Targets(value.names, 1 - value.values)
        if isinstance(value, tuple):
            return value[::-1]
        return ~value if value.dtype == bool else value[::-1].copy()

    rows = dataclasses.replace(rows, groups=rows.drug_id)
    parts = {field.name for field in dataclasses.fields(rows)} - {
        "test",
        "submission_ids",
        "treatment",
        "prepared",  # how new rows are read; what it made of the training rows is in them
    }
    found = {rows.fingerprint()}
    for name in parts:
        changed = dataclasses.replace(rows, **{name: other(getattr(rows, name))})
        found.add(changed.fingerprint())
    assert len(found) == len(parts) + 1


def test_an_honest_run_sets_the_switches_of_every_model():
    values = configuration.config_dict({name: cls() for name, cls in RECIPES.items()}).to_dict()
    parsed = configuration.parse({**values, "honest": True}, RECIPES)
    for name, cls in RECIPES.items():
        assert parsed.models[name] == cls().honest()
        # A baseline is honest as it stands.
        assert (cls().honest() == cls()) == (name == "baseline")


@pytest.mark.parametrize("name", ["three_stage_nn", "nn_tabnet"])
def test_an_honest_chain_is_nested(name):
    honest = RECIPES[name]().honest()
    assert RECIPES[name]().nesting(1) is None
    assert [honest.nesting(stage) for stage in (0, 1)] == [(5, 1), (5, 2)]
    last = designs(honest)[("stacked", "scored")[name == "nn_tabnet"]]
    assert last.features.predictions_of == ("scored", "nonscored")[name == "nn_tabnet"]


def test_data_of_the_same_sizes_are_not_the_originals():
    sizes = {**original.SIZES, "source": "folder"}
    assert original.is_original_data(sizes, original.POSITIVES)
    others = {name: number + 1 for name, number in original.POSITIVES.items()}
    assert not original.is_original_data(sizes, others)


def test_a_file_is_replaced_in_one_step(tmp_path):
    """Who has opened the earlier file reads it to its end."""
    path = tmp_path / "file"
    files.write_text(path, "before")
    with open(path, encoding="utf-8") as opened:
        files.write_text(path, "after")
        assert opened.read() == "before"
    assert path.read_text() == "after"


def blend_theirs(dataset, folder, weights=None, mean="probabilities"):
    """Blends predictions from elsewhere, and returns the work folder."""
    treated = dataset.ids[~dataset.is_control]
    names, written = dataset.targets.names, {}
    for number, model in enumerate(weights or ["theirs"]):
        paths = {}
        for part, ids in (("oof", treated), ("test", dataset.test.ids)):
            paths[part] = str(folder / f"{model}_{part}.csv")
            values = np.random.default_rng(number).uniform(size=(len(ids), len(names)))
            Predictions(ids, names, values).write(paths[part])
        written[model] = PredictionFiles(**paths)
    blend = BlendConfig(method="fixed", weights=weights or {}, files=written, mean=mean)
    config, workdir = RunConfig({}, blend=blend), Workdir(folder / "run")
    run.blend(config, workdir, dataset, run.outside_sources(config, dataset))
    return workdir.path


def test_what_fails_to_be_explained_is_blended_all_the_same(rows, tmp_path, monkeypatch):
    """All files are of one blend, and none says what drove an earlier one."""

    def fail(config, workdir):
        raise UserError("no room")

    blend = tmp_path / "run" / "blend"
    files.write_text(blend / "attributions.parquet", "of an earlier blend")
    monkeypatch.setattr(explanation, "explained", fail)
    with pytest.raises(UserError, match="no room"):
        blend_theirs(rows, tmp_path)
    assert (tmp_path / "run" / "submission.csv").exists()
    assert (blend / "predictions.csv").exists()
    assert not (blend / "attributions.parquet").exists()


def test_a_submission_is_of_the_blends_mean(rows, tmp_path):
    weights = {"mine": 0.25, "theirs": 0.75}
    folder = blend_theirs(rows, tmp_path, weights, "log_odds")
    found = pd.read_csv(folder / "submission.csv", index_col=0)
    odds = 0.0
    for model, weight in weights.items():
        values = pd.read_csv(tmp_path / f"{model}_test.csv", index_col=0).loc[found.index]
        odds = odds + weight * np.log(values / (1 - values))
    np.testing.assert_allclose(found, 1 / (1 + np.exp(-odds)), rtol=1e-6)


def test_the_submission_follows_the_sample(rows, tmp_path):
    order = rows.test.ids[::-1]
    folder = blend_theirs(dataclasses.replace(rows, submission_ids=order), tmp_path)
    lines = (folder / "submission.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in lines[1:]] == order.tolist()


def test_new_rows_may_have_their_columns_in_any_order(rows, tmp_path, monkeypatch):
    simulate.write(tmp_path, rows=60, genes=7, cells=3, scored=3, nonscored=2, test_rows=9, seed=1)
    lines = (tmp_path / "test_features.csv").read_text().splitlines()
    (tmp_path / "new.csv").write_text(
        "".join(",".join(line.split(",")[::-1]) + "\n" for line in lines)
    )
    seen = []

    def load(model, context, targets, num_stages):
        def predict(part):
            seen.append(part)
            return Predictions(part.ids, targets, np.zeros((len(part), len(targets))))

        return predict

    monkeypatch.setattr(prediction.system, "load", load)
    data = DataConfig(test_features=str(tmp_path / "new.csv"))
    config = RunConfig({"model": three_stage_nn.Config()}, data=data)
    workdir = Workdir(tmp_path / "run")
    workdir.bind(config, rows, "vmap")
    metrics_file = workdir.path / "model" / "metrics.json"
    files.write_json(metrics_file, {})
    workdir.manifest("model").add([metrics_file])
    inference.infer(config, workdir)
    assert (seen[0].genes, seen[0].cells) == (rows.genes, rows.cells)
    np.testing.assert_allclose(seen[0].features, rows.test.features)
