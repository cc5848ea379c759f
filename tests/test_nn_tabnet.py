"""The 2-stage NN + TabNet's inputs, folds, training and sizes, at the competition's widths."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from systems import designs, transforms_of
from tabnet_reference import load

from moa_jax.config import switches
from moa_jax.data import folds, simulate
from moa_jax.features.umap import UmapEmbedding
from moa_jax.features.umap_joint import JointUmapEmbedding
from moa_jax.recipes import nn_tabnet
from moa_jax.recipes.design import nonempty_nonscored
from moa_jax.recipes.profile import Steps
from moa_jax.training import members
from moa_jax.training.stage import by_batch, by_row

GENES, CELLS = 772, 100
TIMES, DOSES = np.array([24, 48, 72]), np.array(["D1", "D2"])


@pytest.fixture(scope="module")
def rows():
    data = simulate.make(rows=60, genes=GENES, cells=CELLS, scored=206, nonscored=331, test_rows=0)
    return data.take(np.flatnonzero(~data.is_control))


def stages(config=None, nonscored=True):
    return designs(config or nn_tabnet.Config(), nonscored)


def nothing(rows):
    """Stands for columns that a stage does not have."""
    return np.zeros((len(rows), 0))


class Numbered:
    """A fitted transform whose columns are numbers that tell it from others."""

    def __init__(self, first, count):
        self.columns = first + np.arange(count)

    def transform(self, values):
        return np.tile(self.columns, (len(values), 1))


class Without:
    """A fitted selection that leaves columns out."""

    def __init__(self, *columns):
        self.columns = columns

    def transform(self, values):
        return np.delete(values, self.columns, axis=1)


FIRST_PROFILE = {
    "rank_gauss": Numbered(0, GENES + CELLS),
    "gene_components": Numbered(1000, 50),
    "gene_umap": Numbered(2000, 15),
    "cell_components": Numbered(3000, 15),
    "cell_umap": Numbered(4000, 5),
}
FIRST_COLUMNS = [
    *range(GENES + CELLS), *range(1000, 1050), *range(2000, 2015),
    *range(3000, 3015), *range(4000, 4005),
]  # fmt: skip
SECOND_PROFILE = {
    "rank_gauss": Numbered(0, GENES + CELLS),
    "gene_factors": Numbered(1000, 90),
    "cell_factors": Numbered(2000, 50),
    "gene_clusters": Numbered(3000, 35),
    "cell_clusters": Numbered(4000, 5),
}


def profile_columns(stage, rows, fitted, **changes):
    config = dataclasses.replace(getattr(nn_tabnet.Config(), stage), **changes)
    described = stages(dataclasses.replace(nn_tabnet.Config(), **{stage: config}))[
        stage
    ].features.profile
    return described.columns(rows.features, GENES, Steps(fitted=fitted))


def test_column_order_of_the_first_stage(rows):
    kept = profile_columns("nonscored", rows, FIRST_PROFILE | {"selection": Without()})
    assert kept.shape == (len(rows), 957)
    np.testing.assert_array_equal(kept[0], FIRST_COLUMNS)


def test_inputs_of_the_first_stage(rows):
    """949 columns, as many as the threshold keeps of the real data, then time and dose."""
    left_out = range(920, 928)
    kept = profile_columns("nonscored", rows, FIRST_PROFILE | {"selection": Without(*left_out)})
    found = stages()["nonscored"].features.arrange(rows, kept, nothing(rows))
    assert found.shape == (len(rows), 954)
    np.testing.assert_array_equal(found[0, :949], np.delete(FIRST_COLUMNS, left_out))
    np.testing.assert_array_equal(found[:, 949:952], rows.cp_time[:, None] == TIMES)
    np.testing.assert_array_equal(found[:, 952:], rows.cp_dose[:, None] == DOSES)


def test_joint_embedding_of_new_rows_is_a_switch(rows):
    for value, expected in (("row_by_row", UmapEmbedding), ("joint", JointUmapEmbedding)):
        dense = nn_tabnet.DenseConfig(umap_new_rows=value)
        config = nn_tabnet.Config(nonscored=dense)
        profile = stages(config)["nonscored"].features.profile
        made = transforms_of(profile, rows)
        assert type(made["gene_umap"]) is type(made["cell_umap"]) is expected
        assert (made["gene_umap"].num_components, made["gene_umap"].seed) == (15, 512)
        assert switches(config)["nonscored.umap_new_rows"] == value
        assert switches(config.original())["nonscored.umap_new_rows"] == "joint"
        assert switches(config.honest())["nonscored.umap_new_rows"] == "row_by_row"


def test_umap_is_a_switch(rows):
    fitted = {name: made for name, made in FIRST_PROFILE.items() if "umap" not in name}
    kept = profile_columns("nonscored", rows, fitted | {"selection": Without()}, umap=False)
    assert kept.shape == (len(rows), 957 - 20)


def test_column_order_of_the_second_stage(rows):
    columns = profile_columns("scored", rows, SECOND_PROFILE)
    assert columns.shape == (len(rows), 1164)
    predictions = 5000 + np.tile(np.arange(331), (len(rows), 1))
    found = stages()["scored"].features.arrange(rows, columns, predictions)
    assert found.shape == (len(rows), 1497)
    np.testing.assert_array_equal(found[:, 0], np.searchsorted(TIMES, rows.cp_time))
    np.testing.assert_array_equal(found[:, 1], np.searchsorted(DOSES, rows.cp_dose))
    # Selected by name: gene and cell factors 0 to 49 share theirs, so both come twice.
    pairs = [n for i in range(50) for n in (1000 + i, 2000 + i)]
    expected = {
        2: range(GENES), 774: range(GENES, GENES + CELLS),
        874: pairs, 974: range(1050, 1090), 1014: pairs,
        1114: range(3000, 3035), 1149: range(4000, 4005), 1166: range(5000, 5331),
    }  # fmt: skip
    for first, block in expected.items():
        np.testing.assert_array_equal(found[0, first : first + len(block)], block)


def test_statistics_of_the_second_stage(rows):
    """Mean, deviation, kurtosis and skewness of genes, cells and both, after the rank-gauss."""
    values = np.random.default_rng(0).normal(size=(len(rows), GENES + CELLS))

    class Fixed:
        def transform(self, _):
            return values

    found = profile_columns("scored", rows, SECOND_PROFILE | {"rank_gauss": Fixed()})[:, -12:]
    blocks = [pd.DataFrame(b) for b in (values[:, :GENES], values[:, GENES:], values)]
    expected = [f(axis=1) for b in blocks for f in (b.mean, b.std, b.kurtosis, b.skew)]
    np.testing.assert_allclose(found, np.stack(expected, axis=1), rtol=1e-9, atol=1e-12)


def test_factors_come_once_with_the_switch_off(rows):
    columns = profile_columns("scored", rows, SECOND_PROFILE, duplicate_factor_columns=False)
    found = stages()["scored"].features.arrange(rows, columns, np.zeros((len(rows), 331)))
    assert found.shape == (len(rows), 1397)
    expected = [
        *range(GENES + CELLS), *range(1000, 1090), *range(2000, 2050),
        *range(3000, 3035), *range(4000, 4005),
    ]  # fmt: skip
    np.testing.assert_array_equal(found[0, 2 : 2 + len(expected)], expected)


def test_codes_are_cut_at_the_levels_not_at_those_that_are_there(rows):
    """One row of 72 hours and the second dose has the codes 2 and 1, also alone."""
    row = rows.take(np.flatnonzero((rows.cp_time == 72) & (rows.cp_dose == "D2"))[:1])
    found = stages()["scored"].features.arrange(row, np.zeros((1, 1164)), np.zeros((1, 331)))
    np.testing.assert_array_equal(found[0, :2], [2, 1])


@pytest.mark.parametrize(
    ("stage", "on_train_alone", "on_test_too"),
    [
        (
            "nonscored",
            {"gene_components", "gene_umap", "cell_components", "cell_umap", "selection"},
            {"rank_gauss"},
        ),
        (
            "scored",
            {"rank_gauss"},
            {"gene_factors", "cell_factors", "gene_clusters", "cell_clusters"},
        ),
    ],
)
def test_rows_that_transforms_are_fitted_on(rows, stage, on_train_alone, on_test_too):
    """Every transform but the rank-gauss reads rank-gaussed columns of its own group."""
    seen = {}

    class Recorder(Steps):
        def __call__(self, name, new, values, on_train_alone=False):
            seen[name] = (values, on_train_alone)
            return values + 1 if name == "rank_gauss" else values[:, :1]

    stages()[stage].features.profile.columns(rows.features, GENES, Recorder())
    assert {name for name, (_, alone) in seen.items() if alone} == on_train_alone
    assert {name for name, (_, alone) in seen.items() if not alone} == on_test_too
    np.testing.assert_array_equal(seen["rank_gauss"][0], rows.features)
    blocks = {"gene": slice(0, GENES), "cell": slice(GENES, GENES + CELLS)}
    for name in seen.keys() - {"rank_gauss", "selection"}:
        expected = rows.features[:, blocks[name.split("_")[0]]] + 1
        np.testing.assert_array_equal(seen[name][0], expected)


def test_transforms_have_the_original_parameters(rows):
    def made(stage):
        found = {}

        class Recorder(Steps):
            def __call__(self, name, new, values, on_train_alone=False):
                found[name] = new().parameters()
                return values

        stages()[stage].features.profile.columns(rows.features, GENES, Recorder())
        return found

    umap = {"seed": 512, "keep_fitted": False}
    assert made("nonscored") == {
        "rank_gauss": {"num_quantiles": 100},
        "gene_components": {"num_components": 50},
        "gene_umap": {"num_components": 15, **umap},
        "cell_components": {"num_components": 15},
        "cell_umap": {"num_components": 5, **umap},
        "selection": {"threshold": 0.5},
    }
    clusters = {"seed": 123, "algorithm": "elkan"}
    assert made("scored") == {
        "rank_gauss": {"num_quantiles": 100},
        "gene_factors": {"num_components": 90, "seed": 42},
        "cell_factors": {"num_components": 50, "seed": 42},
        "gene_clusters": {"num_clusters": 35, **clusters},
        "cell_clusters": {"num_clusters": 5, **clusters},
    }


def test_seeds_and_splits_of_both_stages(rows):
    found = stages()["nonscored"].split(rows).folds
    assert list(found) == [0, 1, 2, 3, 4]
    labels = nonempty_nonscored(rows).values
    for fold_of_row, seed in zip(found.values(), [512, 0, 1, 2, 3], strict=True):
        expected = folds.multilabel_stratified(labels, 10, seed, shuffle=True)
        np.testing.assert_array_equal(fold_of_row, expected)
    found = stages()["scored"].split(rows).folds
    assert list(found) == [0, 1, 2]
    for seed, fold_of_row in found.items():
        expected = folds.multilabel_stratified(rows.scored.values, 10, seed, shuffle=True)
        np.testing.assert_array_equal(fold_of_row, expected)


def test_same_folds_are_those_of_the_second_stage(rows):
    config = nn_tabnet.Config(same_folds=True)
    expected = stages()["scored"].split(rows).folds[0]
    for design in stages(config).values():
        for fold_of_row in design.split(rows).folds.values():
            np.testing.assert_array_equal(fold_of_row, expected)


def shapes(stage, inputs, outputs):
    network = stages()[stage].network(outputs)
    made = jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((2, inputs)))
    return jax.tree.leaves(made["params"])


@pytest.mark.parametrize(
    ("stage", "inputs", "outputs", "parameters", "tensors"),
    [("nonscored", 954, 331, 2_642_442, 10), ("scored", 1497, 206, 295_113, 30)],
)
def test_parameter_counts(stage, inputs, outputs, parameters, tensors):
    leaves = shapes(stage, inputs, outputs)
    assert sum(leaf.size for leaf in leaves) == parameters
    assert len(leaves) == tensors


def built(stage, **changes):
    config = dataclasses.replace(getattr(nn_tabnet.Config(), stage), **changes)
    return config.stage(name="", forward=None, members=(), shared=None, targets=None)


def test_networks_and_training_of_both_stages():
    dense, tabnet = stages()["nonscored"].network(331), stages()["scored"].network(206)
    assert dense.dropout == (0.2, 0.25)
    assert (tabnet.n_d, tabnet.n_a, tabnet.n_steps, tabnet.mask_type) == (32, 32, 1, "entmax")
    assert (tabnet.virtual_batch_size, tabnet.momentum) == (128, 0.02)
    assert (tabnet.cat_idxs, tabnet.cat_dims, tabnet.cat_emb_dim) == ((0, 1), (3, 2), (1, 1))
    first, second = built("nonscored"), built("scored")
    assert (first.epochs, first.batch_size, first.valid_weights) == (15, 256, by_batch)
    assert (second.epochs, second.batch_size, second.valid_weights) == (200, 1024, by_row)
    assert first.share_init_across_folds and second.share_init_across_folds


def test_learning_rate_drops_at_two_epochs():
    """A constant gradient makes Adam's step as long as the rate."""
    optimizer = built("scored", weight_decay=0.0).optimizer(jnp.int32(200 * 2), jnp.float32(1))
    weight, gradient = jnp.zeros(()), jnp.full((), 0.5)

    def step(state, _):
        update, state = optimizer.update(gradient, state, weight)
        return state, -update

    _, found = jax.lax.scan(step, optimizer.init(weight), length=400)
    expected = np.repeat([0.02] * 100 + [0.018] * 50 + [0.0162] * 50, 2)
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_gradients_are_clipped_before_the_decay_is_added():
    optimizer = built("scored", weight_decay=0.1).optimizer(jnp.int32(400), jnp.float32(1))
    weights, gradients = jnp.array([3.0, 4.0]), jnp.array([30.0, 40.0])
    _, state = optimizer.update(gradients, optimizer.init(weights), weights)
    moments = jax.tree.leaves(jax.tree.map(np.asarray, state))
    first = next(leaf for leaf in moments if leaf.shape == (2,))
    np.testing.assert_allclose(first, 0.1 * np.array([0.6 + 0.3, 0.8 + 0.4]), rtol=1e-5)


def test_a_member_ends_50_epochs_after_its_best():
    """Best in epoch 30, counted from 0: 80 is the last one run."""
    rule = built("scored").stop
    state = rule.init()
    for epoch in itertools.count():
        state = rule.update(state, jnp.asarray(1 - epoch / 100 if epoch <= 30 else 0.7))
        if state.stop:
            break
    assert epoch == 80


def test_validation_loss_is_the_mean_over_the_fold():
    stage = built("scored")
    generator = np.random.default_rng(0)
    logits = generator.normal(size=(2195, 6)).astype(np.float32)
    targets = (generator.random((2195, 6)) < 0.1).astype(np.float32)

    def loss(rows):
        outputs = (logits[rows], jnp.float32(0))
        return float(stage.valid_loss(outputs, targets[rows], jnp.ones(len(rows), bool)))

    table, counts = members.index_table(np.arange(2195), 1024, 3)
    batches = [loss(rows[:count]) for rows, count in zip(table, counts, strict=True)]
    found = np.average(batches, weights=np.asarray(stage.valid_weights(jnp.asarray(counts))))
    assert found == pytest.approx(loss(np.arange(2195)), rel=1e-6)


@pytest.mark.parametrize("kind", ["loss", "valid_loss"])
def test_losses_smooth_like_the_original(kind):
    """Single logits from -100 to 100 in compiled float32, where one bit of a target shows."""
    reference, function = load("ops"), getattr(built("scored"), kind)

    def loss(logit, target):
        outputs = (logit[None, None], jnp.float32(7))
        return function(outputs, target[None, None], jnp.ones(1, bool))

    logits = reference["smooth_logit"].astype(np.float32)
    for target in (0, 1):
        targets = np.full(len(logits), target, np.float32)
        value, slope = jax.jit(jax.vmap(jax.value_and_grad(loss)))(logits, targets)
        np.testing.assert_allclose(value, reference["smooth_loss_f32"][target], rtol=3e-7)
        np.testing.assert_allclose(
            slope, reference["smooth_dlogit_f32"][target], rtol=3e-6, atol=1e-8
        )


def test_entropy_of_the_masks_enters_the_training_loss_alone():
    outputs = (jnp.zeros((3, 2)), jnp.float32(-1.5))
    targets, mask = jnp.zeros((3, 2)), jnp.ones(3, bool)
    plain, sparse = built("scored"), built("scored", lambda_sparse=0.1)
    assert float(plain.loss(outputs, targets, mask)) == pytest.approx(np.log(2), rel=1e-6)
    assert float(sparse.loss(outputs, targets, mask)) == pytest.approx(np.log(2) + 0.15, rel=1e-6)
    assert float(sparse.valid_loss(outputs, targets, mask)) == pytest.approx(np.log(2), rel=1e-6)


def test_the_first_stage_smooths_neither_loss():
    stage = built("nonscored")
    for function in (stage.loss, stage.valid_loss):
        found = function(jnp.full((1, 1), -40.0), jnp.zeros((1, 1)), jnp.ones(1, bool))
        assert float(found) == pytest.approx(0, abs=1e-12)


def test_without_non_scored_targets_tabnet_reads_its_own_profile(rows):
    without = stages(nonscored=False)
    assert list(without) == ["scored"]
    assert without["scored"].features.predictions_of is None
    assert (
        without["scored"]
        .features.arrange(rows, np.zeros((len(rows), 1164)), nothing(rows))
        .shape[1]
        == 1166
    )
