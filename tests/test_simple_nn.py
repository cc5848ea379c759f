"""The Simple NN, old and new: inputs, folds, members, network, losses at the original's sizes.

Values of its columns are in `test_profiles`, steps of its training in `test_trajectories`.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from systems import designs, folds_of

from moa_jax.data.dataset import Dataset, Targets
from moa_jax.errors import UserError
from moa_jax.recipes import simple_nn
from moa_jax.recipes.profile import Steps
from moa_jax.training import schedules
from moa_jax.training.members import cross_validation
from moa_jax.training.stage import by_batch

GENES, CELLS = 772, 100
SEEDS = [940, 1513, 1269, 1392, 1119, 1303]
VERSIONS = ("old", "new")


def scored(version, **changes):
    return designs(dataclasses.replace(simple_nn.ORIGINAL[version], **changes))["scored"]


def rows_with(labels, drugs=None, genes=2, cells=1):
    count = len(labels)
    return Dataset(
        np.array([f"id_{i}" for i in range(count)], object),
        tuple(f"g-{i}" for i in range(genes)),
        tuple(f"c-{i}" for i in range(cells)),
        np.random.default_rng(0).normal(size=(count, genes + cells)),
        np.tile([24, 48, 72], count)[:count],
        np.tile(["D2", "D1"], count)[:count].astype(object),
        np.zeros(count, bool),
        Targets(tuple(f"t{i}" for i in range(len(labels[0]))), np.array(labels, np.uint8)),
        drug_id=drugs,
    )


@pytest.fixture(scope="module")
def wide():
    return rows_with(np.ones((9, 2)), genes=GENES, cells=CELLS)


class Recorder(Steps):
    """Transforms that give numbered columns of the right width, and what each of them was given."""

    FIRST = {
        "gene_factors": 2000, "cell_factors": 3000, "gene_clusters": 4000, "cell_clusters": 5000,
    }  # fmt: skip

    def __init__(self):
        super().__init__()
        self.seen, self.alone, self.parameters = {}, {}, {}

    def __call__(self, name, new, values, on_train_alone=False):
        self.seen[name], self.alone[name] = values[0], on_train_alone
        self.parameters[name] = new().parameters()
        if name == "first_rank_gauss":
            return np.tile(np.arange(values.shape[1]), (len(values), 1)).astype(float)
        if name == "second_rank_gauss":
            return values + 0.5
        count = next(v for k, v in self.parameters[name].items() if k.startswith("num_"))
        return np.tile(self.FIRST[name] + np.arange(count), (len(values), 1))


def recorded(version, rows):
    recorder = Recorder()
    columns = scored(version).features.profile.columns(rows.features, len(rows.genes), recorder)
    return recorder, scored(version).features.arrange(rows, columns, np.zeros((len(rows), 0)))


# First column of each block and what it holds: numbers of the first rank-gauss, plus 0.5 where the
# second one has been, too.
LAYOUT = {
    "old": {
        0: np.arange(1, 772) + 0.5, 771: np.arange(772, 872) + 0.5,
        871: np.arange(2000, 2090) + 0.5, 961: np.arange(3000, 3050) + 0.5,
        1011: np.arange(4000, 4045), 1056: np.arange(5000, 5015),
    },
    "new": {
        0: np.arange(772) + 0.5, 772: np.arange(772, 872) + 0.5, 872: np.arange(2000, 2090) + 0.5,
        962: np.arange(3000, 3050) + 0.5,
    },
}  # fmt: skip
STATISTICS = {"old": 1071, "new": 1012}
WIDTH = {"old": 1091, "new": 1032}
# What stands for genes and cells where blocks are cut by place.
BLOCKS = {
    "old": (np.arange(1, 773) + 0.5, np.r_[np.arange(773, 872), 2000] + 0.5),
    "new": (np.arange(772) + 0.5, np.arange(772, 872) + 0.5),
}


@pytest.mark.parametrize("version", VERSIONS)
def test_column_order(wide, version):
    _, found = recorded(version, wide)
    assert found.shape == (len(wide), WIDTH[version])
    for first, block in LAYOUT[version].items():
        np.testing.assert_array_equal(found[0, first : first + len(block)], block)
    start = STATISTICS[version]
    np.testing.assert_array_equal(
        found[:, start + 15 : start + 18], wide.cp_time[:, None] == [24, 48, 72]
    )
    np.testing.assert_array_equal(found[:, start + 18 :], wide.cp_dose[:, None] == ["D1", "D2"])


@pytest.mark.parametrize("version", VERSIONS)
def test_statistics_of_the_blocks(wide, version):
    """Sum, mean, deviation, kurtosis, skewness; of what stands for genes, for cells, for both."""
    _, found = recorded(version, wide)
    genes, cells = BLOCKS[version]
    expected = []
    for block in (genes, cells, np.r_[genes, cells]):
        s = pd.Series(block)
        expected += [s.sum(), s.mean(), s.std(), s.kurt(), s.skew()]
    start = STATISTICS[version]
    np.testing.assert_allclose(found[0, start : start + 15], expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("version", VERSIONS)
def test_what_transforms_see_and_know(wide, version):
    """The first rank-gauss knows training rows alone; factors read it, clusters the second one."""
    recorder, _ = recorded(version, wide)
    numbers, (genes, cells) = np.arange(GENES + CELLS), BLOCKS[version]
    factors = np.r_[np.arange(2000, 2090), np.arange(3000, 3050)]
    expected = {
        "first_rank_gauss": wide.features[0],
        "gene_factors": numbers[:GENES],
        "cell_factors": numbers[GENES:],
        "second_rank_gauss": np.r_[numbers, factors][version == "old" :],
    }
    if version == "old":
        expected |= {"gene_clusters": genes, "cell_clusters": cells}
    assert list(recorder.seen) == list(expected)
    for name, values in expected.items():
        np.testing.assert_array_equal(recorder.seen[name], values, err_msg=name)
        assert recorder.alone[name] == (name == "first_rank_gauss")


@pytest.mark.parametrize("version", VERSIONS)
def test_parameters_of_the_transforms(wide, version):
    recorder, _ = recorded(version, wide)
    clusters = {"seed": 123, "algorithm": "lloyd"}
    expected = {
        "first_rank_gauss": {"num_quantiles": 100},
        "gene_factors": {"num_components": 90, "seed": 1903},
        "cell_factors": {"num_components": 50, "seed": 1903},
        "second_rank_gauss": {"num_quantiles": 100},
    }
    if version == "old":
        expected |= {
            "gene_clusters": {"num_clusters": 45, **clusters},
            "cell_clusters": {"num_clusters": 15, **clusters},
        }
    assert recorder.parameters == expected


@pytest.mark.parametrize("version", VERSIONS)
def test_the_dropped_column_is_a_switch(wide, version):
    dropped = simple_nn.ORIGINAL[version].drop_first_gene
    assert dropped == (version == "old")
    other = scored(version, drop_first_gene=not dropped)
    columns = other.features.profile.columns(wide.features, GENES, Recorder())
    assert columns.shape[1] == WIDTH[version] - 5 + (1 if dropped else -1)
    assert columns[0, 0] == (0.5 if dropped else 1.5)


# Literal splits of ten rows with three labels.
LABELS = [[int(c) for c in row] for row in "100 010 010 000 110 001 000 010 001 000".split()]


def test_old_folds_are_of_rows_without_shuffling():
    found = folds_of(scored("old", folds=2), rows_with(LABELS))
    assert list(found) == SEEDS
    for fold_of_row in found.values():
        np.testing.assert_array_equal(fold_of_row, [1, 1, 0, 0, 0, 0, 0, 1, 1, 1])


def test_new_folds_are_of_drugs_with_shuffling():
    """Ten drugs of one row each split like rows; a drug of many rows is split like rows apart."""
    drugs = np.array([f"d{i}" for i in range(10)], object)
    literal = [1, 1, 1, 0, 0, 0, 1, 0, 1, 0]
    found = folds_of(scored("new", folds=2), rows_with(LABELS, drugs))
    assert list(found) == SEEDS
    for fold_of_row in found.values():
        np.testing.assert_array_equal(fold_of_row, literal)
    for many, together in ((18, True), (19, False)):
        rows = rows_with(
            LABELS + [[0, 0, 0]] * many, np.append(drugs, ["frequent"] * many).astype(object)
        )
        of_drug = folds_of(scored("new", folds=2), rows)[940][10:]
        assert (len(set(of_drug.tolist())) == 1) == together


def test_new_folds_need_drugs():
    with pytest.raises(UserError, match="train_drug"):
        simple_nn.ORIGINAL["new"].check(rows_with(LABELS))


@pytest.mark.parametrize("version", VERSIONS)
def test_members(version):
    """Six seeds and five folds, the seeds outermost, selected on the fold that is predicted."""
    labels = np.random.default_rng(0).random((60, 4)) < 0.3
    drugs = np.array([f"d{i // 2}" for i in range(60)], object)
    design, rows = scored(version), rows_with(labels, drugs)
    members = cross_validation(folds_of(design, rows), 0, design.select_on)
    assert [member.name for member in members] == [
        f"seed{seed}_fold{fold}" for seed in SEEDS for fold in range(5)
    ]
    for member in members:
        np.testing.assert_array_equal(member.select_rows, member.valid_rows)
        assert len(member.train_rows) + len(member.valid_rows) == 60
    assert (design.name, design.targets(rows)) == ("scored", rows.scored)


@pytest.mark.parametrize(
    ("version", "inputs", "parameters"), [("old", 1091, 6_867_490), ("new", 1032, 6_746_540)]
)
def test_network_and_schedule(version, inputs, parameters):
    """138 steps an epoch, 3450 in all; the peak of the rate is at a tenth of them."""
    design = scored(version)
    network = design.network(206)
    shapes = jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((2, inputs)))
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes["params"])) == parameters
    assert network.dropout == (0.0, 0.25, 0.25)
    stage = design.training(
        name="", forward=None, members=(), shared=None, member_data=(), targets=None
    )
    assert (stage.epochs, stage.batch_size, stage.valid_weights) == (25, 128, by_batch)
    assert -(-17_558 // stage.batch_size) * stage.epochs == 3450
    assert stage.share_init_across_folds and not stage.validates_start
    config = simple_nn.ORIGINAL[version]
    with jax.enable_x64(True):
        rate, beta1 = schedules.one_cycle(
            3450, 25, config.max_learning_rate, pct_start=config.pct_start
        )
        for step, value, momentum in ((0, 1e-5, 0.95), (344, 1e-2, 0.85), (3449, 1e-9, 0.95)):
            assert float(rate(step)) == pytest.approx(value, rel=1e-9)
            assert float(beta1(step)) == pytest.approx(momentum, rel=1e-12)
    logits = jnp.array([[0.0, 2.0, -3.0], [-6.0, -6.5, 1.0]])
    targets, mask = jnp.array([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]), jnp.ones(2, bool)
    assert float(stage.loss(logits, targets, mask)) == pytest.approx(0.1991920377, rel=1e-6)
    assert float(stage.valid_loss(logits, targets, mask)) == pytest.approx(0.1976503710, rel=1e-6)
