"""Simulated data of the competition's layout, calibrated to the real data's summary numbers.

Marginals, correlations, prevalences and drug sizes come from `calibration.npz`. Wells of a drug
share a latent effect: the sum of its mechanisms' directions and of a direction of its own, larger
at the higher dose and at later times. Scored and non-scored mechanisms act through the same
latent factors, and viability follows the first of them.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from moa_jax import files
from moa_jax.data.tables import Dataset, Levels, Targets

# Latent dimensions beside the calibrated gene factors, and the variance they explain together.
FINE_FACTORS, FINE_SHARE = 60, 0.15
# Strength of a mechanism's effect, log-normal over mechanisms, in units of the well noise.
MECHANISM_MEDIAN, MECHANISM_SPREAD = 0.5, 0.8
# Strength of what only this drug does.
OWN_EFFECT = 0.35
# Factors on the effect by dose and by time.
DOSE_FACTOR = (1.1, 0.9)
TIME_FACTOR = (0.8, 1.0, 1.1)
# Drugs that may have a scored mechanism; the others have none.
LABELLED_SHARE = 0.66
# How much rather a target takes a drug without a label than one that has one.
PREFER_UNLABELLED = 12.0
# Test wells come from other drugs than training wells, but for the frequent ones.
TEST_SHARE = 3982 / 23814
FREQUENT = 100


@functools.cache
def _calibration() -> Mapping[str, np.ndarray]:
    with np.load(Path(__file__).with_name("calibration.npz"), allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}


@dataclasses.dataclass(frozen=True)
class _World:
    """What training and test wells share: loadings and the effect of each mechanism."""

    gene_loadings: np.ndarray  # [factors, genes]
    cell_loadings: np.ndarray  # [cell factors, cells]
    mechanisms: np.ndarray  # [scored + nonscored, factors]


@dataclasses.dataclass(frozen=True)
class _Wells:
    """Wells before their columns are mapped to the real marginals."""

    drug: np.ndarray  # [wells] index of the drug, -1 for controls
    time: np.ndarray  # [wells] index of the level
    dose: np.ndarray
    latent: np.ndarray  # [wells, genes + cells]


def make(
    rows: int = 24_000,
    seed: int = 0,
    genes: int = 772,
    cells: int = 100,
    scored: int = 206,
    nonscored: int = 402,
    drugs: int | None = None,
    test_rows: int | None = None,
) -> Dataset:
    """Returns simulated training rows with targets, and test rows within.

    The same arguments give the same data; the number of test rows does not change the training
    rows.

    Args:
      rows: training rows, controls included.
      seed: seed of everything.
      genes, cells: number of columns; one of them may be 0.
      scored, nonscored: number of targets.
      drugs: number of drugs; by default as many per row as in the real data.
      test_rows: test rows, controls included; by default the real share of `rows`.
    """
    if not genes and not cells:
        raise ValueError("expected genes or cells, found 0 of both")
    facts = _calibration()
    test_rows = max(2, round(rows * TEST_SHARE)) if test_rows is None else test_rows
    world_seed, drug_seed, train_seed, test_seed = np.random.SeedSequence(seed).spawn(4)
    world = _world(np.random.default_rng(world_seed), genes, cells, scored + nonscored)

    controls = round(rows * float(facts["control_share"]))
    generator = np.random.default_rng(drug_seed)
    sizes = _drug_sizes(rows - controls, drugs)
    labels = np.concatenate(
        [
            _labels(generator, sizes, _positives(facts["scored_positives"], scored, sizes)),
            _labels(generator, sizes, _positives(facts["nonscored_positives"], nonscored, sizes)),
        ],
        axis=1,
    )
    effects = _effects(generator, world, labels)
    train = _wells(np.random.default_rng(train_seed), world, sizes, effects, controls)

    generator = np.random.default_rng(test_seed)
    test_controls = round(test_rows * float(facts["control_share"]))
    drug_of_test = _test_drugs(generator, sizes, test_rows - test_controls)
    new_effects = _effects(generator, world, labels)
    frequent = (sizes >= FREQUENT)[:, None]
    effects = np.where(frequent, effects, new_effects)
    test = _wells(generator, world, drug_of_test, effects, test_controls)

    columns = _Columns(train.latent, genes)
    names = _target_names("mechanism", scored), _target_names("nonscored", nonscored)
    levels = Levels()
    ids = _ids(np.random.default_rng(world_seed.spawn(1)[0]), rows + test_rows)
    of_well = np.concatenate([labels, np.zeros((1, scored + nonscored), np.uint8)])[train.drug]
    return dataclasses.replace(
        _dataset(np.sort(ids[:rows]), train, columns, genes, levels),
        scored=Targets(names[0], of_well[:, :scored]),
        nonscored=Targets(names[1], of_well[:, scored:]) if nonscored else None,
        drug_id=np.array([f"drug{d:05d}" if d >= 0 else "vehicle" for d in train.drug], object),
        test=_dataset(np.sort(ids[rows:]), test, columns, genes, levels),
    )


def write(folder: str | Path, rows: int = 24_000, seed: int = 0, **sizes) -> None:
    """Writes simulated data as a folder of the competition's layout.

    Args:
      folder: made where it does not exist.
      rows, seed, **sizes: see `make`.
    """
    data = make(rows, seed, **sizes)
    ids = {"sig_id": data.ids}
    tables = {
        "train_features": _features_table(data),
        "train_targets_scored": _targets_table(data.ids, data.scored),
        "train_drug": pd.DataFrame({**ids, "drug_id": data.drug_id}),
        "test_features": _features_table(data.test),
        "sample_submission": pd.DataFrame(
            {"sig_id": data.test.ids, **dict.fromkeys(data.scored.names, 0.5)}
        ),
    }
    if data.nonscored is not None:
        tables["train_targets_nonscored"] = _targets_table(data.ids, data.nonscored)
    for stem, table in tables.items():
        with files.replacing(Path(folder) / f"{stem}.csv") as temporary:
            table.to_csv(temporary, index=False)


def _spread(values: np.ndarray, count: int) -> np.ndarray:
    """Returns `count` values at evenly spaced ranks of the sorted values."""
    ranks = ((np.arange(count) + 0.5) / max(count, 1) * len(values)).astype(int)
    return values[ranks]


def _world(generator, genes: int, cells: int, mechanisms: int) -> _World:
    facts = _calibration()
    shares = np.concatenate(
        [facts["gene_factor_shares"], np.full(FINE_FACTORS, FINE_SHARE / FINE_FACTORS)]
    )
    gene_loadings = generator.normal(size=(len(shares), genes)) * np.sqrt(shares)[:, None]
    # One factor carries most of viability, with one sign.
    shares = facts["cell_factor_shares"]
    cell_loadings = generator.normal(size=(len(shares), cells)) * np.sqrt(shares)[:, None]
    cell_loadings[0] = np.sqrt(shares[0]) * generator.uniform(0.95, 1.05, cells)
    strength = np.exp(MECHANISM_SPREAD * generator.normal(size=mechanisms)) * MECHANISM_MEDIAN
    directions = generator.normal(size=(mechanisms, gene_loadings.shape[0]))
    return _World(gene_loadings, cell_loadings, strength[:, None] * directions)


def _drug_sizes(treated: int, drugs: int | None) -> np.ndarray:
    """Returns the number of wells of each drug, descending; they sum to `treated`."""
    facts = _calibration()
    real = np.sort(np.repeat(facts["drug_sizes"], facts["drug_counts"]))[::-1]
    count = round(len(real) * treated / real.sum()) if drugs is None else drugs
    count = int(np.clip(count, 1, treated))
    sizes = _spread(real, count) * (treated / _spread(real, count).sum())
    sizes = np.maximum(1, np.floor(sizes).astype(int))
    # Rounding leaves some wells over, or a few too many where drugs were raised to one well.
    while (over := treated - sizes.sum()) != 0:
        movable = np.arange(count) if over > 0 else np.flatnonzero(sizes > 1)
        chosen = movable[:: max(1, len(movable) // abs(over))][: abs(over)]
        sizes[chosen] += np.sign(over)
    return np.sort(sizes)[::-1]


def _positives(real: np.ndarray, targets: int, sizes: np.ndarray) -> np.ndarray:
    """Returns the wanted number of positive wells of each target; real zeros stay zeros."""
    wanted = _spread(real, targets)
    scaled = np.round(wanted * (sizes.sum() / _calibration()["treated_rows"]))
    return np.where(wanted > 0, np.maximum(scaled, 1), 0).astype(int)


def _labels(generator, sizes: np.ndarray, positives: np.ndarray) -> np.ndarray:
    """Returns the targets of each drug, [drugs, targets], with about so many positive wells."""
    labels = np.zeros((len(sizes), len(positives)), np.uint8)
    weight = np.where(generator.random(len(sizes)) < LABELLED_SHARE, 1.0, 1e-9)
    for target in np.argsort(-positives, kind="stable"):
        left = positives[target]
        while left > 0:
            # The largest drugs belong to the largest targets; a drug may overshoot by a third.
            fits = (sizes <= max(left * 4 // 3, sizes[-1])) & (labels[:, target] == 0)
            if not fits.any():
                break
            candidates = np.flatnonzero(fits)
            large = candidates[sizes[candidates] >= FREQUENT]
            if len(large) and not labels[large[0]].any():
                drug = large[0]
            else:
                share = weight[candidates] / weight[candidates].sum()
                drug = generator.choice(candidates, p=share)
            labels[drug, target] = 1
            weight[drug] /= PREFER_UNLABELLED
            left -= sizes[drug]
    return labels


def _effects(generator, world: _World, labels: np.ndarray) -> np.ndarray:
    own = OWN_EFFECT * generator.normal(size=(len(labels), world.mechanisms.shape[1]))
    return labels @ world.mechanisms + own


def _test_drugs(generator, sizes: np.ndarray, wells: int) -> np.ndarray:
    """Returns wells per drug in the test set, drawn like those of training."""
    return generator.multinomial(wells, sizes / sizes.sum())


def _wells(
    generator, world: _World, sizes: np.ndarray, effects: np.ndarray, controls: int
) -> _Wells:
    drug = np.concatenate([np.repeat(np.arange(len(sizes)), sizes), np.full(controls, -1)])
    # A drug's wells go through all combinations of time and dose before one repeats.
    position = np.concatenate([np.arange(size) for size in sizes] + [np.arange(controls)])
    combination = (position + generator.integers(0, 6, len(sizes) + 1)[drug]) % 6
    order = generator.permutation(len(drug))
    drug, combination = drug[order], combination[order]
    time, dose = combination % 3, combination // 3
    factor = np.asarray(TIME_FACTOR)[time] * np.asarray(DOSE_FACTOR)[dose] * (drug >= 0)
    factors = generator.normal(size=(len(drug), world.gene_loadings.shape[0]))
    factors += factor[:, None] * effects[drug]
    latent = [_columns(generator, factors, world.gene_loadings)]
    cell_factors = generator.normal(size=(len(drug), len(world.cell_loadings)))
    # Viability falls where the strongest expression factors rise.
    shared = factors[:, : cell_factors.shape[1]]
    cell_factors = np.sqrt(0.5) * cell_factors - np.sqrt(0.5) * shared
    latent.append(_columns(generator, cell_factors, world.cell_loadings))
    return _Wells(drug, time, dose, np.concatenate(latent, axis=1))


def _columns(generator, factors: np.ndarray, loadings: np.ndarray) -> np.ndarray:
    noise = np.sqrt(np.maximum(0.05, 1 - np.square(loadings).sum(0)))
    return factors @ loadings + noise * generator.normal(size=(len(factors), loadings.shape[1]))


class _Columns:
    """Maps latent columns to the real marginals, through the ranks of the training wells."""

    def __init__(self, latent: np.ndarray, genes: int):
        facts = _calibration()
        cells = latent.shape[1] - genes
        repeat = lambda table, count: table[:, np.arange(count) % table.shape[1]]
        self._real = np.concatenate(
            [repeat(facts["gene_quantiles"], genes), repeat(facts["cell_quantiles"], cells)], axis=1
        )
        self._latent = np.quantile(latent, facts["references"], axis=0)

    def __call__(self, latent: np.ndarray) -> np.ndarray:
        mapped = np.empty_like(latent)
        for column in range(latent.shape[1]):
            mapped[:, column] = np.interp(
                latent[:, column], self._latent[:, column], self._real[:, column]
            )
        return mapped.round(4)


def _target_names(kind: str, count: int) -> tuple[str, ...]:
    # Two real names contain a comma, which a reader of CSV must expect.
    return tuple(
        f"{kind}_{i:03d},_second_type" if i in (1, 2) else f"{kind}_{i:03d}" for i in range(count)
    )


def _ids(generator, count: int) -> np.ndarray:
    numbers = generator.choice(16**9, size=2 * count + 10, replace=True)
    unique = np.unique(numbers)
    return np.array([f"id_{n:09x}" for n in generator.permutation(unique)[:count]], object)


def _dataset(
    ids: np.ndarray, wells: _Wells, columns: _Columns, genes: int, levels: Levels
) -> Dataset:
    cells = wells.latent.shape[1] - genes
    return Dataset(
        ids=ids,
        genes=tuple(f"g-{i}" for i in range(genes)),
        cells=tuple(f"c-{i}" for i in range(cells)),
        features=columns(wells.latent),
        cp_time=np.asarray(levels.cp_time)[wells.time],
        cp_dose=np.asarray(levels.cp_dose, object)[wells.dose],
        is_control=wells.drug < 0,
    )


def _features_table(data: Dataset) -> pd.DataFrame:
    levels = Levels()
    table = pd.DataFrame(data.features, columns=[*data.genes, *data.cells])
    table.insert(0, "cp_dose", data.cp_dose)
    table.insert(0, "cp_time", data.cp_time)
    table.insert(0, "cp_type", np.where(data.is_control, levels.control, levels.treated))
    table.insert(0, "sig_id", data.ids)
    return table


def _targets_table(ids: np.ndarray, targets: Targets) -> pd.DataFrame:
    table = pd.DataFrame(targets.values, columns=list(targets.names))
    table.insert(0, "sig_id", ids)
    return table
