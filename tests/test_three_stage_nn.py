"""The 3-stage NN's inputs, folds and sizes, at the widths of the competition's data."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from systems import designs, transforms_of

from moa_jax.config import switches
from moa_jax.data import simulate
from moa_jax.data.dataset import Targets
from moa_jax.features.umap import UmapEmbedding
from moa_jax.features.umap_joint import JointUmapEmbedding
from moa_jax.recipes import three_stage_nn
from moa_jax.recipes.design import nonempty_nonscored
from moa_jax.recipes.profile import Steps
from moa_jax.training import schedules

GENES, CELLS = 772, 100


@pytest.fixture(scope="module")
def rows():
    data = simulate.make(rows=60, genes=GENES, cells=CELLS, scored=206, nonscored=331, test_rows=0)
    return data.take(np.flatnonzero(~data.is_control))


def stages(config=None, nonscored=True):
    return designs(config or three_stage_nn.Config(), nonscored)


def nothing(rows):
    """Stands for columns that a stage does not have."""
    return np.zeros((len(rows), 0))


class Numbered:
    """A fitted transform whose columns are numbers that tell it from others."""

    def __init__(self, first, count):
        self.columns = first + np.arange(count)

    def transform(self, values):
        return np.tile(self.columns, (len(values), 1))


def numbered_profile(rows):
    fitted = {
        "rank_gauss": Numbered(0, GENES + CELLS),
        "gene_factors": Numbered(1000, 90),
        "gene_umap": Numbered(2000, 45),
        "cell_factors": Numbered(3000, 50),
        "cell_umap": Numbered(4000, 25),
    }
    described = three_stage_nn.ThreeStageProfile(three_stage_nn.FeaturesConfig())
    return described.columns(rows.features, GENES, Steps(fitted=fitted))


def test_column_order_of_the_first_stage(rows):
    found = stages()["nonscored"].features.arrange(rows, numbered_profile(rows), nothing(rows))
    assert found.shape == (len(rows), 1087)
    expected = [
        *range(GENES + CELLS), *range(1000, 1090), *range(2000, 2045),
        *range(3000, 3050), *range(4000, 4025),
    ]  # fmt: skip
    np.testing.assert_array_equal(found[0, :1082], expected)
    np.testing.assert_array_equal(found[:, 1082:1085], rows.cp_time[:, None] == [24, 48, 72])
    np.testing.assert_array_equal(found[:, 1085:], rows.cp_dose[:, None] == ["D1", "D2"])


def test_column_order_of_the_second_stage(rows):
    columns = numbered_profile(rows)
    predictions = 5000.0 + np.tile(np.arange(331), (len(rows), 1))
    found = stages()["scored"].features.arrange(rows, columns, predictions)
    assert found.shape == (len(rows), 1418)
    np.testing.assert_array_equal(found[:, :1082], columns)
    np.testing.assert_array_equal(found[:, 1082:1413], predictions)
    np.testing.assert_array_equal(found[:, 1413:1416], rows.cp_time[:, None] == [24, 48, 72])
    np.testing.assert_array_equal(found[:, 1416:], rows.cp_dose[:, None] == ["D1", "D2"])


def test_the_third_stage_reads_predictions_alone(rows):
    third = stages()["stacked"]
    assert third.features.profile is None
    predictions = np.random.default_rng(0).random((len(rows), 206))
    np.testing.assert_array_equal(
        third.features.arrange(rows, nothing(rows), predictions), predictions
    )


def test_transforms_of_the_profile_are_fitted_on_the_raw_columns(rows):
    """Rank-gauss comes last in fitting order only: factors and embeddings see raw values."""
    seen = {}

    class Recorder(Steps):
        def __call__(self, name, new, values, on_train_alone=False):
            seen[name] = (values, on_train_alone)
            return values[:, :1]

    described = three_stage_nn.ThreeStageProfile(three_stage_nn.FeaturesConfig())
    described.columns(rows.features, GENES, Recorder())
    genes, cells = rows.features[:, :GENES], rows.features[:, GENES:]
    for name, expected in {
        "gene_factors": genes, "gene_umap": genes, "cell_factors": cells, "cell_umap": cells,
        "rank_gauss": rows.features,
    }.items():  # fmt: skip
        np.testing.assert_array_equal(seen[name][0], expected)
        assert not seen[name][1]


@pytest.mark.parametrize(
    ("stage", "inputs", "outputs", "parameters"),
    [
        ("nonscored", 1087, 331, 7_115_540),
        ("scored", 1418, 206, 7_537_840),
        ("stacked", 206, 206, 1_478_456),
    ],
)
def test_parameter_counts(stage, inputs, outputs, parameters):
    network = stages()[stage].network(outputs)
    shapes = jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((2, inputs)))
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes["params"])) == parameters
    assert network.dropout == (0.15, 0.3, 0.25)


@pytest.mark.parametrize(
    ("folds", "stage", "steps_per_epoch", "total"),
    [
        (5, "nonscored", 69, 1035), (5, "scored", 69, 1725), (5, "stacked", 69, 1725),
        (10, "nonscored", 78, 1170), (10, "scored", 78, 1950), (10, "stacked", 78, 1950),
    ],
)  # fmt: skip
def test_steps(folds, stage, steps_per_epoch, total):
    config = getattr(three_stage_nn.Config(folds=folds), stage)
    train_rows = 21_948 - 21_948 // folds
    assert -(-train_rows // config.batch_size) == steps_per_epoch
    assert steps_per_epoch * config.epochs == total
    with jax.enable_x64(True):
        rate, beta1 = schedules.one_cycle(
            total, config.epochs, config.max_learning_rate, pct_start=config.pct_start
        )
        peak = round(config.pct_start * total) - 1
        assert float(rate(0)) == pytest.approx(1e-5, rel=1e-12)
        assert float(rate(peak)) == pytest.approx(1e-2, rel=1e-12)
        assert float(rate(total - 1)) == pytest.approx(1e-9, rel=1e-9)
        assert float(beta1(peak)) == pytest.approx(0.85, rel=1e-12)


def losses(stage, logits, targets):
    built = getattr(three_stage_nn.Config(), stage).stage(
        name="", forward=None, members=(), shared=None, targets=None
    )
    mask = jnp.ones(len(logits), bool)
    return [float(f(logits, targets, mask)) for f in (built.loss, built.valid_loss)]


def test_first_and_third_stage_smooth_both_losses_the_second_neither():
    logits = jnp.array([[0.0, 2.0, -3.0], [-6.0, -6.5, 1.0]])
    targets = jnp.array([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    for stage in ("nonscored", "stacked"):
        assert losses(stage, logits, targets) == pytest.approx([0.1991920377] * 2, rel=1e-6)
    assert losses("scored", logits, targets) == pytest.approx([0.1976503710] * 2, rel=1e-6)


def split(config, stage, rows):
    return next(iter(stages(config)[stage].split(rows).folds.values()))


def test_folds_of_clipped_targets_are_blocked_and_seeded(rows):
    """The literal splits of 12 rows and 332 labels, and of 23 rows and 207 labels, all true."""
    config = three_stage_nn.Config()
    every = Targets(rows.nonscored.names, np.ones((12, 331), np.uint8))
    twelve = dataclasses.replace(rows.take(np.arange(12)), nonscored=every)
    np.testing.assert_array_equal(
        split(config, "nonscored", twelve), [0, 3, 4, 2, 1, 0, 1, 4, 3, 2, 0, 1]
    )
    ten = three_stage_nn.Config(folds=10)
    np.testing.assert_array_equal(
        split(ten, "stacked", rows.take(np.arange(23))),
        [7, 5, 1, 0, 2, 6, 4, 9, 3, 8, 7, 8, 9, 1, 0, 6, 4, 2, 3, 5, 4, 3, 0],
    )


def test_switches_of_the_folds(rows):
    faithful, by_labels = three_stage_nn.Config(), three_stage_nn.Config(stratify_on="labels")
    assert (split(faithful, "stacked", rows) != split(by_labels, "stacked", rows)).any()
    np.testing.assert_array_equal(split(faithful, "scored", rows), split(by_labels, "scored", rows))
    same = three_stage_nn.Config(same_folds=True)
    for stage in ("nonscored", "scored", "stacked"):
        np.testing.assert_array_equal(split(same, stage, rows), split(faithful, "scored", rows))


def test_every_seed_has_the_same_folds(rows):
    assert list(stages()["scored"].split(rows).folds) == [0, 1, 2, 3, 4]
    first, *others = stages()["scored"].split(rows).folds.values()
    assert all(other is first for other in others)


def test_non_scored_targets_without_a_positive_row_are_left_out(rows):
    targets = nonempty_nonscored(rows)
    assert 0 < len(targets.names) < 331
    assert targets.values.any(0).all()
    kept = [rows.nonscored.names.index(name) for name in targets.names]
    assert kept == sorted(kept)


def test_without_non_scored_targets_the_second_stage_reads_its_own_profile(rows):
    without = stages(nonscored=False)
    assert list(without) == ["scored", "stacked"]
    assert (
        without["scored"].features.profile is not None
        and without["scored"].features.predictions_of is None
    )
    found = without["scored"].features.arrange(rows, numbered_profile(rows), nothing(rows))
    assert found.shape == (len(rows), 1087)


@pytest.mark.parametrize(
    ("value", "expected"), [("by_batch", (0.2 + 0.8) / 2), ("by_row", (256 * 0.2 + 64 * 0.8) / 320)]
)
def test_mean_of_the_validation_loss_is_a_switch(value, expected):
    """Of a full batch and one of 64 rows, whose losses are 0.2 and 0.8."""
    stages = {
        name: dataclasses.replace(getattr(three_stage_nn.Config(), name), validation_mean=value)
        for name in ("nonscored", "scored", "stacked")
    }
    config = dataclasses.replace(three_stage_nn.Config(), **stages)
    for name, section in stages.items():
        stage = section.stage(name="", forward=None, members=(), shared=None, targets=None)
        weights = np.asarray(stage.valid_weights(np.array([256, 64, 0])))
        assert np.average([0.2, 0.8, 7.0], weights=weights) == pytest.approx(expected)
        assert switches(config)[f"{name}.validation_mean"] == value
        assert switches(config.original())[f"{name}.validation_mean"] == "by_batch"


def test_joint_embedding_of_new_rows_is_a_switch(rows):
    for value, expected in (("row_by_row", UmapEmbedding), ("joint", JointUmapEmbedding)):
        features = three_stage_nn.FeaturesConfig(umap_new_rows=value)
        made = transforms_of(three_stage_nn.ThreeStageProfile(features), rows)
        assert type(made["gene_umap"]) is type(made["cell_umap"]) is expected
        assert made["gene_umap"].num_components == 45 and made["gene_umap"].keep_fitted
        config = three_stage_nn.Config(features=features)
        assert switches(config)["features.umap_new_rows"] == value
        assert switches(config.original())["features.umap_new_rows"] == "joint"
        assert switches(config.honest())["features.umap_new_rows"] == "row_by_row"
