"""Simulated data: layout, determinism, and the real data's summary numbers."""

import dataclasses

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from moa_jax.data import simulate, tables
from moa_jax.errors import UserError
from moa_jax.training import metrics

SMALL = dict(rows=400, seed=3, genes=20, cells=6, scored=5, nonscored=8)


def assert_equal(one, other):
    for field in dataclasses.fields(one):
        a, b = getattr(one, field.name), getattr(other, field.name)
        if dataclasses.is_dataclass(a):
            assert_equal(a, b)
        elif isinstance(a, np.ndarray):
            assert a.dtype == b.dtype, field.name
            np.testing.assert_array_equal(a, b, err_msg=field.name)
        else:
            assert a == b, field.name


def column_mean_loss(labels):
    return metrics.mean_log_loss(labels, np.broadcast_to(labels.mean(0), labels.shape))


def correlations(values):
    """Returns the mean absolute correlation of the columns and the first factor's share."""
    r = np.corrcoef(values, rowvar=False)
    return np.abs(r[np.triu_indices(len(r), 1)]).mean(), np.linalg.eigvalsh(r)[-1] / len(r)


@pytest.fixture(scope="module")
def real_labels():
    """As many rows as in the real data with all labels, but only two columns."""
    return simulate.make(rows=23_814, genes=1, cells=1, test_rows=0)


@pytest.fixture(scope="module")
def wide():
    return simulate.make(rows=6_000, seed=1, genes=300, cells=40, scored=40, nonscored=0)


def test_layout():
    data = simulate.make(**SMALL)
    assert len(data) == 400 and len(data.test) == 67
    assert data.genes == tuple(f"g-{i}" for i in range(20))
    assert data.cells == tuple(f"c-{i}" for i in range(6))
    assert data.features.shape == (400, 26) and data.features.dtype == np.float64
    assert data.scored.values.shape == (400, 5) and data.scored.values.dtype == np.uint8
    assert data.scored.names[0] == "mechanism_000" and "," in data.scored.names[1]
    assert data.nonscored.values.shape == (400, 8)
    assert data.is_control.sum() == 31 and data.test.is_control.sum() == 5
    assert (np.sort(data.ids) == data.ids).all()
    assert len({*data.ids, *data.test.ids}) == 467
    assert data.test.scored is None and data.test.drug_id is None
    assert data.scored.values.any(0).all()


def test_golden_values():
    data = simulate.make(**SMALL)
    assert data.ids[0] == "id_00119410e" and data.drug_id[0] == "drug00036"
    np.testing.assert_array_equal(data.features[0, :4], [-0.6769, -0.0193, -0.3681, -0.5296])
    np.testing.assert_array_equal(data.test.features[0, :2], [-1.3212, 0.3212])
    np.testing.assert_array_equal(data.cp_time[:4], [72, 72, 24, 48])
    np.testing.assert_array_equal(data.scored.values.sum(0), [2, 1, 1, 1, 1])
    np.testing.assert_array_equal(data.nonscored.values.sum(0), [1, 1, 1, 1, 1, 1, 1, 0])


def test_same_arguments_same_data():
    one = simulate.make(**SMALL)
    assert_equal(one, simulate.make(**SMALL))
    other = simulate.make(**{**SMALL, "seed": 4})
    assert (one.features != other.features).mean() > 0.99
    assert (one.ids != other.ids).all()


def test_test_rows_leave_training_rows():
    one, other = (simulate.make(**SMALL, test_rows=count) for count in (0, 50))
    assert one.test is None and one.submission_ids is None
    assert len(other.test) == 50
    assert_equal(one, dataclasses.replace(other, test=None, submission_ids=None))


@pytest.mark.parametrize("absent", ["genes", "cells"])
def test_one_group_of_columns_may_be_absent(absent):
    data = simulate.make(**{**SMALL, absent: 0})
    assert getattr(data, absent) == () and getattr(data.test, absent) == ()
    assert data.features.shape[1] == {"genes": 6, "cells": 20}[absent]


def test_no_columns_at_all():
    with pytest.raises(ValueError, match="genes or cells"):
        simulate.make(rows=50, genes=0, cells=0)


@pytest.mark.parametrize("drugs", [1, 3, 92])
def test_number_of_drugs(drugs):
    data = simulate.make(rows=100, genes=2, cells=0, scored=30, nonscored=0, drugs=drugs)
    assert data.nonscored is None
    assert len(set(data.drug_id[~data.is_control])) == drugs
    assert (~data.is_control).sum() == 92
    assert data.scored.values.any(0).all()


def test_more_columns_than_real():
    data = simulate.make(rows=60, genes=800, cells=0, scored=300, nonscored=500)
    assert data.features.shape == (60, 800)
    assert len(set(data.scored.names) | set(data.nonscored.names)) == 800


def test_round_trip(tmp_path):
    simulate.write(tmp_path / "data", **SMALL)
    assert_equal(simulate.make(**SMALL), tables.load(tmp_path / "data"))


def test_what_is_absent_is_not_written(tmp_path):
    simulate.write(tmp_path, **{**SMALL, "nonscored": 0}, test_rows=0)
    assert {path.name for path in tmp_path.iterdir()} == {
        "train_features.csv", "train_targets_scored.csv", "train_drug.csv"
    }  # fmt: skip


def test_unwritable_folder(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="expected a folder, found a file"):
        simulate.write(tmp_path / "file", **SMALL)


def test_drugs_as_in_the_real_data(real_labels):
    data = real_labels
    assert data.is_control.sum() == 1_866
    assert set(data.drug_id[data.is_control]) == {"vehicle"}
    sizes = np.unique(data.drug_id[~data.is_control].astype(str), return_counts=True)[1]
    assert len(sizes) == 3_288
    assert (sizes == 6).sum() == 2_774
    np.testing.assert_array_equal(
        np.sort(sizes[sizes > 100]), [178, 186, 194, 196, 202, 203, 246, 718]
    )


def test_treatments_as_in_the_real_data(real_labels):
    time = [(real_labels.cp_time == level).sum() for level in (24, 48, 72)]
    dose = [(real_labels.cp_dose == level).sum() for level in ("D1", "D2")]
    np.testing.assert_allclose(time, [7_772, 8_250, 7_792], atol=150)
    np.testing.assert_allclose(dose, [12_147, 11_667], atol=150)


def test_prevalences_as_in_the_real_data(real_labels):
    labels = real_labels.scored.values[~real_labels.is_control]
    positives = labels.sum(0)
    assert 832 <= positives.max() <= 1_000 and positives.min() >= 1
    np.testing.assert_allclose(positives.sum(), 16_844, rtol=0.03)
    np.testing.assert_allclose(np.median(positives), 38.5, atol=2)
    assert abs(column_mean_loss(labels) - 0.0222) < 0.0003
    rows_with = np.bincount(labels.sum(1, dtype=int))
    np.testing.assert_allclose(rows_with[:3], [7_501, 12_532, 1_538], rtol=0.3)
    nonscored = real_labels.nonscored.values
    assert (nonscored.sum(0) == 0).sum() == 71
    np.testing.assert_allclose(nonscored.sum(), 5_008, rtol=0.03)


def test_labels_belong_to_drugs(real_labels):
    for targets in (real_labels.scored.values, real_labels.nonscored.values):
        _, first, drug = np.unique(
            real_labels.drug_id.astype(str), return_index=True, return_inverse=True
        )
        np.testing.assert_array_equal(targets, targets[first][drug])
        assert not targets[real_labels.is_control].any()


def test_marginals_of_the_real_data(wide):
    g_0, c_0 = wide.gene_values[:, 0], wide.cell_values[:, 0]
    np.testing.assert_allclose(
        np.quantile(g_0, [0.25, 0.5, 0.75]), [-0.473, -0.009, 0.526], atol=0.02
    )
    np.testing.assert_allclose(
        np.quantile(c_0, [0.25, 0.5, 0.75]), [-0.550, -0.009, 0.449], atol=0.02
    )
    assert wide.features.min() == -10 and wide.features.max() == 10
    assert 0.003 < (wide.cell_values == -10).mean() < 0.012
    assert 1.0 < np.median(wide.gene_values.std(0)) < 1.3


def test_correlations_of_the_real_data(wide):
    mean, first = correlations(wide.gene_values)
    assert abs(mean - 0.18) < 0.025 and abs(first - 0.22) < 0.03
    mean, first = correlations(wide.cell_values)
    assert abs(mean - 0.834) < 0.03 and abs(first - 0.84) < 0.03


def test_wells_of_a_drug_are_alike_and_controls_are_not(wide):
    profiles = StandardScaler().fit_transform(wide.gene_values)
    profiles /= np.linalg.norm(profiles, axis=1, keepdims=True)

    def likeness(rows):
        cosines = profiles[rows] @ profiles[rows].T
        return cosines[np.triu_indices(len(cosines), 1)].mean()

    of_drug = [wide.drug_id == drug for drug in set(wide.drug_id) - {"vehicle"}]
    assert np.mean([likeness(rows) for rows in of_drug if rows.sum() > 1]) > 0.05
    assert likeness(wide.is_control) < 0.02


def test_labels_of_unseen_drugs_can_be_learnt(wide):
    treated = ~wide.is_control
    inputs = StandardScaler().fit_transform(wide.features[treated])
    labels = wide.scored.values[treated]
    largest = np.argsort(-labels.sum(0), kind="stable")[:10]
    held_out = np.array([int(drug[4:]) % 4 == 0 for drug in wide.drug_id[treated]])
    learnt, prior = [], []
    for target in labels[:, largest].T:
        model = LogisticRegression(C=1e-3).fit(inputs[~held_out], target[~held_out])
        learnt.append(model.predict_proba(inputs[held_out])[:, 1])
        prior.append(np.full(held_out.sum(), target[~held_out].mean()))
    truth = labels[held_out][:, largest]
    loss, prior_loss = (metrics.mean_log_loss(truth, np.stack(p, 1)) for p in (learnt, prior))
    assert loss < 0.92 * prior_loss


@pytest.mark.slow
def test_full_size():
    data = simulate.make()
    assert data.features.shape == (24_000, 872) and len(data.test) == 4_013
    assert abs(column_mean_loss(data.scored.values[~data.is_control]) - 0.0222) < 0.0007
    mean, first = correlations(data.gene_values)
    assert abs(mean - 0.18) < 0.02 and abs(first - 0.22) < 0.02
    mean, first = correlations(data.cell_values)
    assert abs(mean - 0.834) < 0.02 and abs(first - 0.837) < 0.02
