"""The survey of features: against pandas on whole tables, and at flat memory."""

import tracemalloc

import numpy as np
import pandas as pd
import pytest

from moa_jax.prepare import sources, survey
from moa_jax.prepare.__main__ import main
from moa_jax.prepare.sources import Screen

NAMES = [f"f{index}" for index in range(5)]


def source(values, rows):
    """A source whose numbers come `rows` at a time."""

    def parts(names):
        chosen = values[:, [NAMES.index(name) for name in names]]
        yield from (chosen[start : start + rows].copy() for start in range(0, len(values), rows))

    return Screen(None, (), tuple(NAMES), {}, None, parts)


def test_statistics():
    generator = np.random.default_rng(0)
    values = generator.normal(size=(50, 5))
    values[generator.random((50, 5)) < 0.2] = np.nan
    values[:, 3], values[:, 4] = np.nan, 7
    values[49] = values[0]
    training = generator.random(50) < 0.7
    found = survey.survey(source(values, 7), NAMES, training, None)
    table = pd.DataFrame(values[training], columns=NAMES)
    np.testing.assert_allclose(found.missing, table.isna().mean())
    np.testing.assert_array_equal(found.median, table.median().fillna(0))
    assert found.constant.tolist() == [False, False, False, False, True]
    assert found.sampled == training.sum() and found.repeated == 1


def test_medians_of_a_sample(monkeypatch):
    monkeypatch.setattr(survey, "SAMPLE_BYTES", 8 * 5 * 11)
    values = np.arange(500.0).reshape(100, 5)
    found = survey.survey(source(values, 9), NAMES, np.ones(100, bool), None)
    assert found.sampled == 11
    np.testing.assert_array_equal(
        found.median, np.median(values[np.arange(0, 100, 9.9).astype(int)], 0)
    )


def test_correlations_of_replicates():
    generator = np.random.default_rng(0)
    compound = np.array([f"d{row % 20}" for row in range(60)], object)
    compound[::9] = None
    profile = {name: generator.normal(size=5) for name in sorted({*compound} - {None})}
    values = np.array([profile.get(name, np.zeros(5)) for name in compound])
    values += 0.4 * generator.normal(size=values.shape)
    found = survey.survey(source(values, 60), NAMES, np.ones(60, bool), compound)
    count = pd.Series(compound).value_counts()
    rows = [row for row in range(60) if compound[row] and count[compound[row]] > 1]
    scaled = values[rows]
    scaled = (scaled - scaled.mean(0)) / scaled.std(0)
    alike = np.corrcoef(scaled)
    expected = []
    for name in dict.fromkeys(compound[rows]):
        mine = np.flatnonzero(compound[rows] == name)
        expected.append(np.median([alike[a, b] for a in mine for b in mine if a < b]))
    np.testing.assert_allclose(found.within, expected, atol=1e-12)
    unlike = compound[rows][:, None] != compound[rows]
    assert np.median(found.between) == pytest.approx(np.median(alike[unlike]), abs=0.05)
    assert np.median(found.within) > 0.7 > 0.3 > np.median(found.between)


def test_memory_does_not_grow_with_the_rows(tmp_path, monkeypatch):
    """A matrix of 96 MB, of which a fortieth is wanted, in less than a fifth of its size."""
    h5py = pytest.importorskip("h5py")
    wells, genes = 3000, 8000
    with h5py.File(tmp_path / "a.gctx", "w") as file:
        matrix = file.create_dataset(
            "0/DATA/0/matrix", (wells, genes), np.float32, chunks=(100, genes), compression="lzf"
        )
        for start in range(0, wells, 500):
            matrix[start : start + 500] = np.arange(genes) % 7 + np.arange(500)[:, None] % 5
        file["0/META/ROW/id"] = np.arange(genes).astype("S")
        file["0/META/ROW/pr_is_lm"] = (np.arange(genes) % 40 == 0).astype(int)
        file["0/META/COL/id"] = np.arange(wells).astype("S")
        file["0/META/COL/pert_id"] = (np.arange(wells) % 50).astype("S")
        file["0/META/COL/moa"] = np.array(["a", "b"], "S")[np.arange(wells) % 2]
    monkeypatch.setattr(sources, "BLOCK_BYTES", 1 << 21)
    monkeypatch.setattr(survey, "SAMPLE_BYTES", 1 << 21)
    flags = [f"--out={tmp_path / 'data'}", "--preset=cmap"]
    tracemalloc.start()
    main([str(tmp_path / "a.gctx"), *flags])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    written = pd.read_parquet(tmp_path / "data" / "train_features.parquet")
    assert written.shape == (wells, 201)
    assert peak < 96e6 / 5, peak
