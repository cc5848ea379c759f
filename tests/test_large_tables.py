"""Large tables: float32 on the host, fits and inputs part by part, to the bits of whole ones."""

import dataclasses

import jax
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import systems
from data_folders import frames

from moa_jax.data import simulate, tables
from moa_jax.data.dataset import ORIGINAL_LEVELS
from moa_jax.deepinsight import inputs
from moa_jax.features import rank_gauss
from moa_jax.features.column_sums import ColumnSums
from moa_jax.features.rank_gauss import holding
from moa_jax.features.standard_scale import StandardScale
from moa_jax.recipes import profile, profile_features, two_heads_inputs
from moa_jax.recipes.attribution_baseline import Baseline
from moa_jax.recipes.features import Passage
from moa_jax.recipes.profile_features import ProfileFeatures
from moa_jax.training.made_rows import MadeRows
from moa_jax.training.parallel import Devices

DEVICES = len(jax.devices())


@pytest.fixture(scope="module")
def rows():
    """Rows whose features are numbers of float32, in float64."""
    made = simulate.make(rows=90, seed=1, genes=9, cells=3, scored=3, nonscored=0, test_rows=40)

    def rounded(one):
        return dataclasses.replace(one, features=one.features.astype(np.float32).astype(float))

    return dataclasses.replace(rounded(made), test=rounded(made.test))


def in_float32(rows):
    test = None if rows.test is None else in_float32(rows.test)
    return dataclasses.replace(rows, features=rows.features.astype(np.float32), test=test)


def states(fitted):
    return {
        f"{name} {key}": np.asarray(array).tobytes()
        for name, one in fitted.items()
        for key, array in one.state().items()
    }


@pytest.mark.parametrize("columns", [1, 2, 3, 7, 8, 40])
def test_sums_of_parts_are_those_of_all_rows(columns):
    """Of numbers whose sum depends on the order, in tables that numpy adds in any way."""
    values = np.random.default_rng(0).lognormal(0, 9, (3000, columns))
    for cuts in ([1, 2, 700], range(8, 3000, 129)):
        sums = ColumnSums()
        for part in np.split(values, cuts):
            sums.add(part)
        np.testing.assert_array_equal(sums.totals, values.sum(0))


def test_what_is_added_may_be_used_again():
    part, sums = np.ones((4, 1)), ColumnSums()
    sums.add(part)
    part *= 9
    assert sums.totals == 4


@pytest.mark.parametrize("columns", [1, 2, 12])
@pytest.mark.parametrize("new", [StandardScale, holding])
def test_transforms_are_fitted_on_parts_to_the_same_bits(new, columns, monkeypatch):
    monkeypatch.setattr(rank_gauss, "TOGETHER_BYTES", 8 * 5 * 999)
    values = np.random.default_rng(0).lognormal(0, 3, (999, columns))
    values[:, columns // 3] = 0.1 + 0.2
    values[::7, columns // 3] = 0.3
    parts = np.split(values, [1, 300, 700])
    whole, found = new().fit(values), new().fit_parts(lambda: parts, len(values))
    assert states({"": found}) == states({"": whole})
    np.testing.assert_array_equal(found.transform(values[:9]), whole.transform(values[:9]))


class Chain:
    """A profile of transforms one after another, the second one fitted on training rows alone."""

    def columns(self, values, num_genes, steps):
        scaled = steps("scale", StandardScale, values)
        ranked = steps("ranks", holding, scaled[:, :num_genes], on_train_alone=True)
        return np.concatenate([scaled, steps("again", StandardScale, ranked + 1)], axis=1)


@pytest.mark.parametrize("some", [False, True])
@pytest.mark.parametrize("with_test", [False, True])
def test_a_profile_is_fitted_on_parts_to_the_same_bits(rows, monkeypatch, with_test, some):
    test = rows.test if with_test else None
    chosen = np.arange(len(rows))[5::2] if some else None
    whole = profile.fit(Chain(), rows, test, chosen)
    monkeypatch.setattr(profile, "WHOLE_BYTES", 0)
    monkeypatch.setattr(profile, "PART_BYTES", 8 * rows.features.shape[1] * 11)
    seen = []

    class Seen(StandardScale):
        def fit_parts(self, parts, rows):
            seen.extend(map(len, parts()))
            return super().fit_parts(parts, rows)

    monkeypatch.setitem(globals(), "StandardScale", Seen)
    found = profile.fit(Chain(), in_float32(rows), test and in_float32(test), chosen)
    assert [*found] == ["scale", "ranks", "again"] and states(found) == states(whole)
    assert max(seen) == 11
    num_rows = (len(rows) if chosen is None else len(chosen)) + len(test or ())
    assert sum(seen) == 2 * num_rows


def test_rows_alone_are_as_those_that_were_taken(rows):
    chosen = np.arange(len(rows))[3::2]
    found = profile.fit(Chain(), rows, None, chosen)
    assert states(found) == states(profile.fit(Chain(), rows.take(chosen), None))


def test_features_in_float32_are_the_same_numbers(rows):
    """What is computed of them is computed in float64."""
    short = in_float32(rows)
    assert short.features.dtype == np.float32 and short.values.dtype == np.float64
    assert short.fingerprint() == rows.fingerprint()
    for levels in (None, ORIGINAL_LEVELS):
        found, expected = (two_heads_inputs.raw_table(r, levels) for r in (short, rows))
        np.testing.assert_array_equal(found, expected)
        assert found.dtype == np.float64
    found, expected = (inputs.raw_table(r, ORIGINAL_LEVELS) for r in (short, rows))
    np.testing.assert_array_equal(found, expected)
    assert found.dtype == np.float64
    for some in (short, short.take(np.flatnonzero(~short.is_control))):
        of = Baseline.of(some).features
        is_mean = some.is_control if some.is_control.any() else slice(None)
        np.testing.assert_array_equal(of, some.values[is_mean].mean(0))
    fitted = profile.fit(Chain(), short, short.test)
    assert states(fitted) == states(profile.fit(Chain(), rows, rows.test))
    found, expected = (profile.apply(Chain(), fitted, r, np.dtype(float)) for r in (short, rows))
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("kinds", [["float32"], ["float64"], ["float32", "float64"]])
def test_a_file_of_float32_is_held_as_it_is(tmp_path, kinds):
    frame = frames(rows=25)["train_features"]
    names = [name for name in frame if name.startswith(("g-", "c-"))]
    for number, name in enumerate(names):
        frame[name] = frame[name].astype(np.float32).astype(kinds[number % len(kinds)])
    pq.write_table(pa.Table.from_pandas(frame, preserve_index=False), tmp_path / "new.parquet")
    frame.astype(dict.fromkeys(names, float)).to_csv(tmp_path / "new.csv", index=False)
    found = tables.read_features(tmp_path / "new.parquet").features
    as_text = tables.read_features(tmp_path / "new.csv").features
    assert as_text.dtype == np.float64 and found.flags.c_contiguous
    assert found.dtype == (np.float32 if kinds == ["float32"] else np.float64)
    np.testing.assert_array_equal(found, as_text)


def features_of(many):
    """Features by two sets, the second of which is wider, and what has fitted them."""
    fitted = [profile.fit(Chain(), many, None, np.arange(n)) for n in (40, 90)]

    def arrange(rows, columns, _):
        return np.concatenate([columns, rows.cp_time[:, None]], axis=1)

    features = ProfileFeatures(arrange, "per_fold", Chain())
    return features, systems.Stored([(), ()], lambda stage: fitted)


def test_rows_are_made_where_they_are_asked_for(rows, monkeypatch):
    many = dataclasses.replace(rows, test=None).take(np.arange(1003) % 90)
    features, stored = features_of(many)
    table = features.table(Passage(many), "scored", stored)
    assert isinstance(features.made(Passage(many), "scored", stored), np.ndarray)
    assert not features.makes_rows(table)
    monkeypatch.setattr(profile, "ROWS_AT_ONCE", 64)
    monkeypatch.setattr(profile_features, "KEPT_BYTES", 0)
    made = features.made(Passage(in_float32(many)), "scored", stored)
    assert isinstance(made, MadeRows) and features.makes_rows(table)
    assert (made.shape, made.dtype, len(made)) == (table.shape, table.dtype, len(table))
    for start, stop in ((0, 1003), (0, 1), (63, 65), (1, 640), (990, 2000), (5, 5)):
        np.testing.assert_array_equal(made[start:stop], table[start:stop])
    with pytest.raises(IndexError, match="follow one another"):
        made[::2]


def test_devices_that_share_rows_get_one_part_after_another():
    width, asked = 5, []

    def write(start, out):
        asked.append(len(out))
        out[:] = np.arange(start, start + len(out))[:, None] + np.arange(width)

    table = MadeRows((8 * DEVICES + 3, width), np.dtype(np.float32), write)
    devices = Devices.available("shard_map")
    whole = devices.put_tables(table)
    np.testing.assert_array_equal(whole, table)
    asked.clear()
    found = devices.sharing_rows().put_tables(table)
    size = -(-len(table) // DEVICES)
    assert max(asked) == size and sum(asked) == len(table)
    np.testing.assert_array_equal(np.asarray(found.part)[: len(table)], table)
    assert not np.asarray(found.part)[len(table) :].any()
    # What lies on the devices already stays there.
    again, _ = devices.sharing_rows().put_tables((found, None))
    assert again is found
