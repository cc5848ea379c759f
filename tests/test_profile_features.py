"""Features of dense networks: sets of transforms, rows they know, and folds of unlike widths."""

import dataclasses
import tracemalloc

import numpy as np
import pytest
import systems

from moa_jax.data import simulate
from moa_jax.features.selection import VarianceSelection
from moa_jax.features.standard_scale import StandardScale
from moa_jax.features.umap_joint import JointUmapEmbedding
from moa_jax.recipes import profile, profile_features
from moa_jax.recipes.features import Passage, known_of
from moa_jax.recipes.profile_features import ProfileFeatures
from moa_jax.recipes.simple_nn import Config
from moa_jax.training.members import cross_validation


class Selected:
    """A profile of the columns that vary in the rows it is fitted on."""

    def columns(self, values, num_genes, steps):
        return steps("selection", lambda: VarianceSelection(1e-6), values, on_train_alone=True)


FEATURES = ProfileFeatures(lambda rows, columns, _: columns, "per_fold", Selected())


@pytest.fixture
def data():
    """Rows of which some columns vary in one fold alone."""
    data = simulate.make(rows=60, genes=5, cells=2, scored=2, nonscored=0, test_rows=8, seed=1)
    rows = np.flatnonzero(~data.is_control)
    values = data.features.copy()
    values[:, 1:3] = 0
    values[rows[::2], 1:3] = np.random.default_rng(0).normal(size=(len(rows[::2]), 2))
    return dataclasses.replace(data, features=values)


def fitted(data):
    rows = data.take(np.flatnonzero(~data.is_control))
    folds = {0: np.arange(len(rows)) % 2, 5: np.arange(len(rows)) % 2}
    members, passage = cross_validation(folds, 0), Passage(rows)
    known = known_of(FEATURES, members, data, rows, {})
    made = dict(FEATURES.fit(known, list(known.sets)))
    return members, passage, known.sets, made


def test_members_of_a_fold_share_a_set(data):
    members, _, sets, _ = fitted(data)
    assert list(sets) == ["fold0", "fold1"]
    assert [FEATURES.set_of(member.id) for member in members] == ["fold0", "fold1"] * 2
    for member, known in zip(members[:2], sets.values(), strict=True):
        assert not known[member.valid_rows].any() and known.sum() == len(member.train_rows)


def test_a_fold_that_keeps_fewer_columns_ends_in_zeros(data):
    """The controls do not vary in the two columns either."""
    controls = np.flatnonzero(data.is_control)
    data.features[controls, 1:3] = 0
    _, passage, sets, made = fitted(data)
    table = FEATURES.table(
        passage, "scored", systems.Stored([(), ()], lambda stage: [made[name] for name in sets])
    )
    assert [len(made[name]["selection"].kept_) for name in sets] == [5, 7]
    assert table.shape == (len(passage.rows), 2, 7)
    values = passage.rows.features.astype(np.float32)
    np.testing.assert_array_equal(table[:, 0, :5], np.delete(values, [1, 2], axis=1))
    np.testing.assert_array_equal(table[:, 0, 5:], 0)
    np.testing.assert_array_equal(table[:, 1], values)


def test_transforms_of_a_fold_do_not_know_its_rows(data):
    _, passage, sets, made = fitted(data)
    rows = np.flatnonzero(~data.is_control)[~sets["fold1"]]
    values = data.features.copy()
    values[rows] = 7
    _, _, _, again = fitted(dataclasses.replace(data, features=values))
    for name, same in (("fold1", True), ("fold0", False)):
        here, there = (m[name]["selection"].kept_.tolist() for m in (made, again))
        assert (here == there) == same


def test_a_profile_is_computed_once_for_all_stages(data):
    _, passage, sets, made = fitted(data)
    asked = []

    def read(stage):
        asked.append(stage)
        return [made[name] for name in sets]

    stored = systems.Stored([(), ()], read)
    first = FEATURES.table(passage, "first", stored)
    later = dataclasses.replace(FEATURES, profile_of="first")
    np.testing.assert_array_equal(later.table(passage, "second", stored), first)
    assert asked == ["first", "first", "second"]


def test_reading_test_rows_is_said(data):
    assert dataclasses.replace(FEATURES, transforms="all").reads_test and not FEATURES.reads_test
    assert systems.designs(Config())["scored"].features.reads_test


class Doubled:
    """A profile: every column, scaled, and twice that."""

    def columns(self, values, num_genes, steps):
        scaled = steps("scale", StandardScale, values)
        return np.concatenate([scaled, 2 * scaled], axis=1)


class Together(StandardScale):
    """A transform of all rows together: their ranks within the call."""

    looks_at_all_rows = True

    def transform(self, values):
        return values.argsort(0).argsort(0).astype(float)


@pytest.fixture
def many(monkeypatch):
    """5,003 rows, of which 64 are transformed at a time."""
    rows = simulate.make(rows=60, seed=1, genes=30, cells=10, scored=3, nonscored=2)
    monkeypatch.setattr(profile, "ROWS_AT_ONCE", 64)
    return dataclasses.replace(rows, test=None).take(np.arange(5003) % 60)


def test_rows_are_transformed_block_by_block(many):
    values = many.features
    fitted = {"scale": StandardScale().fit(values)}
    scaled = fitted["scale"].transform(values)
    expected = np.concatenate([scaled, 2 * scaled], axis=1).astype(np.float32)
    tracemalloc.start()
    found = profile.apply(Doubled(), fitted, many, np.float32)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, expected)
    assert peak < 1.3 * expected.nbytes, "another table of all rows was there"


def test_inputs_are_arranged_block_by_block(many):
    seen = []

    def arrange(rows, columns, predicted):
        seen.append((len(rows), len(columns)))
        return np.concatenate([columns, rows.cp_time[:, None]], axis=1)

    features = dataclasses.replace(FEATURES, arrange=arrange, profile=Doubled())
    stored = systems.Stored(
        [(), ()], lambda stage: [{"scale": StandardScale().fit(many.features)}] * 2
    )
    table = features.table(Passage(many), "scored", stored)
    assert seen[:2] == [(1, 1)] * 2, "a row tells how wide a set's inputs are"
    assert max(seen) == (64, 64) and len(seen[2:]) == 2 * -(-len(many) // 64)
    np.testing.assert_array_equal(table[:, 1, -1], many.cp_time)
    np.testing.assert_array_equal(table[:, 0], table[:, 1])


def test_many_columns_are_not_kept_beside_the_table(many, monkeypatch):
    arrange = lambda rows, columns, predicted: columns  # noqa: E731
    features = dataclasses.replace(FEATURES, arrange=arrange, profile=Doubled())
    fitted = [{"scale": StandardScale().fit(many.features[start:])} for start in (0, 9)]
    stored, passage = systems.Stored([(), ()], lambda stage: fitted), Passage(many)
    kept = features.table(passage, "scored", stored)
    monkeypatch.setattr(profile_features, "KEPT_BYTES", many.features.size)
    for stage in ("scored", "stacked"):
        passage = Passage(many)
        tracemalloc.start()
        table = dataclasses.replace(features, profile_of="scored").table(passage, stage, stored)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        np.testing.assert_array_equal(table, kept)
        assert peak < 1.3 * table.nbytes, "another table of all rows was there"
    # Of what looks at all rows together there is no block.
    fitted[1] = {"scale": Together()}
    assert features.table(Passage(many), "scored", stored)[:, 1, :40].max() == len(many) - 1


def test_what_is_fitted_last_is_not_applied(data):
    applied = []

    class Watched(StandardScale):
        def transform(self, values):
            applied.append(len(values))
            return super().transform(values)

    class Chain:
        def columns(self, values, num_genes, steps):
            first = steps("first", Watched, values)
            again = steps("second", Watched, steps("first", Watched, values)[:, :3])
            return steps.derive(["sum"], lambda a: applied.append(len(a)), first[:, :3] + again)

    found = profile.fit(Chain(), data, data.test)
    rows = len(data) + len(data.test)
    # What a row would become tells which one is the last.
    assert [*found] == ["first", "second"] and applied == [1, rows, rows]
    values = np.concatenate([data.features, data.test.features])
    expected = StandardScale().fit(StandardScale().fit(values).transform(values)[:, :3])
    np.testing.assert_array_equal(found["second"].mean_, expected.mean_)

    class Nothing:
        def columns(self, values, num_genes, steps):
            return values

    assert profile.fit(Nothing(), data, None) == {}


def test_what_looks_at_all_rows_gets_them_together(many):
    fitted = {"scale": Together()}
    found = profile.apply(Doubled(), fitted, many, np.float64)
    assert found[:, :40].max() == len(many) - 1
    assert JointUmapEmbedding.looks_at_all_rows
