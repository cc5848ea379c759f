"""Simulated data of the competition's layout, calibrated to the real data's summary numbers.

Marginals, factor structure, prevalences and drug sizes come from `calibration.npz`. Every
mechanism, scored or not, is a direction in one space of latent factors. The wells of a drug share
the sum of its mechanisms' directions and a direction of its own, larger or smaller with dose and
time; what differs between them is noise with the same factors. Viability falls as the strongest
factors rise.

Measured at the default sizes and seed 0, with the real data's figures in brackets:

* log loss on treated rows: each target's mean 0.02221 (0.02220); one network as the Simple NN's in
  PyTorch (25 epochs, no clusters, one seed, first of five folds) 0.01581 with row-wise stratified
  folds and 0.01688 with drug-aware folds (0.01585 and about 0.0171, means of several seeds);
* mean absolute correlation of genes 0.180 (0.182), share of their first factor 0.215 (0.222);
  of cells 0.832 (0.834) and 0.834 (0.837).
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from moa_jax.data.dataset import ORIGINAL_LEVELS, Dataset, Targets
from moa_jax.store import files

# Latent dimensions beside the calibrated gene factors, and the variance they explain together.
FINE_FACTORS, FINE_SHARE = 60, 0.15
# Strength of a mechanism's effect, log-normal over mechanisms, in units of the well noise.
MECHANISM_MEDIAN, MECHANISM_SPREAD = 0.2, 1.0
# Strength of what only this drug does.
OWN_EFFECT = 0.3
# Factors on the effect by time and by dose.
TIME_EFFECT = (0.8, 1.0, 1.2)
DOSE_EFFECT = (1.1, 0.9)
# A drug's first six wells are one of each time and dose; these are the shares of further wells
# and of controls.
TIME_SHARE = (0.3, 0.4, 0.3)
DOSE_SHARE = (0.55, 0.45)
# Log-normal spread of how strongly a well responds, alike in all its columns. With Gaussian columns
# the map to the real, heavy-tailed marginals would weaken the correlations more.
RESPONSE_SPREAD = 0.5
# Correlation of viability with the gene factors that it follows.
VIABILITY_CORRELATION = -0.7
# Drugs with more wells are the same in training and test; the others have new effects in test.
FREQUENT = 100
TEST_SHARE = 3982 / 23814


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
      scored, nonscored: number of targets; `nonscored` may be 0.
      drugs: number of drugs; by default as many per row as in the real data.
      test_rows: test rows, controls included, 0 for none; by default the real share of `rows`.
    """
    if not genes and not cells:
        raise ValueError("expected genes or cells, found 0 of both")
    facts = _calibration()
    if test_rows is None:
        test_rows = max(2, round(rows * TEST_SHARE))
    of_world, of_drugs, of_train, of_test = np.random.default_rng(seed).spawn(4)
    loadings = _Loadings.draw(of_world, genes, cells)
    mechanisms = _mechanisms(of_world, scored + nonscored, loadings.num_factors)
    controls = round(rows * float(facts["control_share"]))
    sizes = _drug_sizes(rows - controls, drugs)
    labels = _labels(of_drugs, sizes, scored, nonscored)
    effects = _effects(of_drugs, labels, mechanisms)
    # The factors of all wells have about unit variance, so that effects leave the loadings' shares.
    spread = np.sqrt(1 + np.average(np.square(effects).mean(1), weights=sizes))
    wells = _Wells.draw(of_train, sizes, controls, effects, loadings, spread)
    marginals = _Marginals.of(wells.latent, genes)
    # The row of labels for drug -1, the vehicle, is all zero.
    targets = np.concatenate([labels, np.zeros_like(labels[:1])])[wells.drug]
    data = dataclasses.replace(
        _dataset(_ids(of_train, rows, 0), wells, marginals, genes),
        scored=Targets(_target_names("mechanism", scored), targets[:, :scored]),
        nonscored=(
            Targets(_target_names("nonscored", nonscored), targets[:, scored:])
            if nonscored
            else None
        ),
        drug_id=np.array([f"drug{d:05d}" if d >= 0 else "vehicle" for d in wells.drug], object),
    )
    if not test_rows:
        return data
    controls = round(test_rows * float(facts["control_share"]))
    unseen = _effects(of_test, labels, mechanisms)
    effects = np.where((sizes >= FREQUENT)[:, None], effects, unseen)
    sizes = of_test.multinomial(test_rows - controls, sizes / sizes.sum())
    wells = _Wells.draw(of_test, sizes, controls, effects, loadings, spread)
    rows_to_predict = _dataset(_ids(of_test, test_rows, 1), wells, marginals, genes)
    return dataclasses.replace(data, test=rows_to_predict, submission_ids=rows_to_predict.ids)


def write(
    folder: str | Path, rows: int = 24_000, seed: int = 0, drugs: int | None = None, **sizes: int
) -> None:
    """Writes simulated data as CSV files of the competition's layout.

    Args:
      folder: made where it does not exist.
      rows, seed, drugs, **sizes: see `make`.

    Raises:
      UserError: the folder cannot be written or the disk is full.
    """
    data = make(rows, seed, drugs=drugs, **sizes)
    targets = data.targets
    tables = {
        "train_features": _features_table(data),
        "train_targets_scored": _targets_table(data.ids, targets),
        "train_drug": pd.DataFrame({"sig_id": data.ids, "drug_id": data.drug_id}),
    }
    if data.nonscored is not None:
        tables["train_targets_nonscored"] = _targets_table(data.ids, data.nonscored)
    if data.test is not None:
        tables["test_features"] = _features_table(data.test)
        tables["sample_submission"] = pd.DataFrame(
            {"sig_id": data.submission_ids, **dict.fromkeys(targets.names, 0.5)}
        )
    for stem, table in tables.items():
        with files.replacing(Path(folder) / f"{stem}.csv") as temporary:
            table.to_csv(temporary, index=False)


@functools.cache
def _calibration() -> Mapping[str, np.ndarray]:
    with np.load(Path(__file__).with_name("calibration.npz"), allow_pickle=False) as stored:
        return dict(stored)


@dataclasses.dataclass(frozen=True)
class _Loadings:
    """Loadings of the columns on the factors; the rest of their unit variance is noise."""

    genes: np.ndarray  # [factors, genes]
    cells: np.ndarray  # [cell factors, cells]

    @classmethod
    def draw(cls, generator: np.random.Generator, genes: int, cells: int) -> _Loadings:
        facts = _calibration()
        shares = np.append(
            facts["gene_factor_shares"], np.full(FINE_FACTORS, FINE_SHARE / FINE_FACTORS)
        )
        # Uniform, as the real loadings on the first factor nearly are.
        of_genes = np.sqrt(3 * shares)[:, None] * generator.uniform(-1, 1, (len(shares), genes))
        shares = facts["cell_factor_shares"]
        of_cells = np.sqrt(3 * shares)[:, None] * generator.uniform(-1, 1, (len(shares), cells))
        # The first factor carries most of viability, alike in all columns.
        of_cells[0] = np.sqrt(shares[0]) * generator.uniform(0.95, 1.05, cells)
        return cls(of_genes, of_cells)

    @property
    def num_factors(self) -> int:
        return len(self.genes)


@dataclasses.dataclass(frozen=True)
class _Wells:
    """Wells before their columns are mapped to the real marginals."""

    drug: np.ndarray  # [wells] index of the drug, -1 for controls
    time: np.ndarray  # [wells] index of the level
    dose: np.ndarray  # [wells] index of the level
    latent: np.ndarray  # [wells, genes + cells]

    @classmethod
    def draw(
        cls,
        generator: np.random.Generator,
        sizes: np.ndarray,
        controls: int,
        effects: np.ndarray,
        loadings: _Loadings,
        spread: float,
    ) -> _Wells:
        """Draws `sizes[d]` wells of each drug d and the controls, in random order."""
        drug = np.repeat(np.arange(-1, len(sizes)), [controls, *sizes])
        time, dose = _treatments(generator, drug)
        order = generator.permutation(len(drug))
        drug, time, dose = drug[order], time[order], dose[order]
        strength = np.asarray(TIME_EFFECT)[time] * np.asarray(DOSE_EFFECT)[dose] * (drug >= 0)
        factors = generator.normal(size=(len(drug), loadings.num_factors))
        factors = (factors + strength[:, None] * effects[drug]) / spread
        shared = VIABILITY_CORRELATION * factors[:, : len(loadings.cells)]
        alone = np.sqrt(1 - VIABILITY_CORRELATION**2) * generator.normal(size=shared.shape)
        latent = np.concatenate(
            [
                _columns(generator, factors, loadings.genes),
                _columns(generator, shared + alone, loadings.cells),
            ],
            axis=1,
        )
        response = np.exp(RESPONSE_SPREAD * generator.normal(size=(len(drug), 1)))
        return cls(drug, time, dose, response * latent)


@dataclasses.dataclass(frozen=True)
class _Marginals:
    """Maps latent columns to the real distributions, by their ranks among the training wells."""

    latent: np.ndarray  # [references, columns]
    real: np.ndarray  # [references, columns]

    @classmethod
    def of(cls, latent: np.ndarray, genes: int) -> _Marginals:
        facts = _calibration()
        real = [
            table[:, np.arange(count) % table.shape[1]]
            for table, count in (
                (facts["gene_quantiles"], genes),
                (facts["cell_quantiles"], latent.shape[1] - genes),
            )
        ]
        quantiles = np.quantile(latent, facts["references"], axis=0)
        return cls(quantiles, np.concatenate(real, axis=1).astype(np.float64))

    def __call__(self, latent: np.ndarray) -> np.ndarray:
        mapped = np.empty_like(latent)
        for column, (found, wanted) in enumerate(zip(self.latent.T, self.real.T, strict=True)):
            mapped[:, column] = np.interp(latent[:, column], found, wanted)
        # Four decimals, as the real files have, hide how a platform rounds matrix products.
        return mapped.round(4)


def _columns(
    generator: np.random.Generator, factors: np.ndarray, loadings: np.ndarray
) -> np.ndarray:
    noise = np.sqrt(np.maximum(0.05, 1 - np.square(loadings).sum(0)))
    return factors @ loadings + noise * generator.normal(size=(len(factors), loadings.shape[1]))


def _mechanisms(generator: np.random.Generator, count: int, num_factors: int) -> np.ndarray:
    """Returns the effect of each mechanism, [mechanisms, factors]."""
    strength = MECHANISM_MEDIAN * np.exp(MECHANISM_SPREAD * generator.normal(size=(count, 1)))
    return strength * generator.normal(size=(count, num_factors))


def _effects(
    generator: np.random.Generator, labels: np.ndarray, mechanisms: np.ndarray
) -> np.ndarray:
    """Returns the effect of each drug, [drugs, factors]."""
    own = generator.normal(size=(len(labels), mechanisms.shape[1]))
    return labels @ mechanisms + OWN_EFFECT * own


def _treatments(generator: np.random.Generator, drug: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the indices of time and dose of wells that are sorted by drug."""
    number = np.arange(len(drug)) - np.searchsorted(drug, drug)
    offset = generator.integers(6, size=drug.max(initial=0) + 2)[drug]
    share = np.outer(TIME_SHARE, DOSE_SHARE).ravel()
    further = generator.choice(6, size=len(drug), p=share)
    of_first_six = (number < 6) & (drug >= 0)
    return np.divmod(np.where(of_first_six, (number + offset) % 6, further), 2)


def _spread_out(values: np.ndarray, count: int) -> np.ndarray:
    """Returns `count` values at evenly spaced ranks of the sorted values."""
    ranks = ((np.arange(count) + 0.5) / max(count, 1) * len(values)).astype(int)
    return values[ranks]


def _drug_sizes(treated: int, drugs: int | None) -> np.ndarray:
    """Returns the number of wells of each drug, descending; they sum to `treated`."""
    facts = _calibration()
    real = np.sort(np.repeat(facts["drug_sizes"], facts["drug_counts"]))[::-1]
    count = round(len(real) * treated / real.sum()) if drugs is None else drugs
    sizes = _spread_out(real, int(np.clip(count, 1, treated)))
    sizes = np.maximum(1, np.rint(sizes * (treated / sizes.sum())).astype(int))
    # Rounding leaves a few wells over or too many.
    while (left := treated - sizes.sum()) != 0:
        movable = np.flatnonzero(sizes > (0 if left > 0 else 1))
        chosen = movable[:: max(1, len(movable) // abs(left))][: abs(left)]
        sizes[chosen] += np.sign(left)
    return np.sort(sizes)[::-1]


def _labels(
    generator: np.random.Generator, sizes: np.ndarray, scored: int, nonscored: int
) -> np.ndarray:
    """Returns the targets of each drug, [drugs, scored + nonscored] uint8."""
    facts = _calibration()

    def room(counts: np.ndarray) -> np.ndarray:
        return generator.choice(len(counts), size=len(sizes), p=counts / counts.sum())

    positives = _positives(facts["scored_positives"], scored, sizes)
    of_scored = _assign(generator, sizes, positives, room(facts["scored_per_drug"]))
    alone, beside = (room(counts) for counts in facts["nonscored_per_drug"])
    room_beside_scored = np.where(of_scored.any(1), beside, alone)
    positives = _positives(facts["nonscored_positives"], nonscored, sizes)
    return np.concatenate(
        [of_scored, _assign(generator, sizes, positives, room_beside_scored)], axis=1
    )


def _positives(real: np.ndarray, targets: int, sizes: np.ndarray) -> np.ndarray:
    """Returns the wanted number of positive wells of each target; real zeros stay zeros."""
    wanted = _spread_out(real, targets)
    scaled = np.rint(wanted * (sizes.sum() / _calibration()["treated_rows"])).astype(int)
    return np.where(wanted > 0, np.maximum(scaled, 1), 0)


def _assign(
    generator: np.random.Generator, sizes: np.ndarray, positives: np.ndarray, room: np.ndarray
) -> np.ndarray:
    """Returns targets of drugs with about `positives` positive wells of each target.

    Args:
      generator: source of the draws.
      sizes: wells of each drug, descending.
      positives: wanted positive wells of each target, descending.
      room: how many targets each drug should have; a drug gets more only for want of others.
    """
    labels = np.zeros((len(sizes), len(positives)), np.uint8)
    room = room.astype(np.float64)
    for target, wanted in enumerate(positives):
        left = wanted
        while left > 0:
            # A drug may overshoot by a third, or else small remainders would use up small drugs.
            fits = (sizes <= max(left * 4 // 3, sizes[-1])) & (labels[:, target] == 0)
            if not fits.any():
                break
            frequent = np.flatnonzero(fits & (sizes >= FREQUENT) & (room > 0))
            # Frequent drugs fit large targets only, so each of those begins with one.
            if left == wanted and len(frequent):
                drug = frequent[0]
            else:
                weight = np.where(fits, np.maximum(room, 1e-9), 0.0)
                drug = generator.choice(len(sizes), p=weight / weight.sum())
            labels[drug, target] = 1
            room[drug] -= 1
            left -= sizes[drug]
    return labels


def _ids(generator: np.random.Generator, count: int, last_bit: int) -> np.ndarray:
    """Returns ascending ids of nine hexadecimal digits; different last bits never collide."""
    numbers = np.sort(generator.choice(2**35, size=count, replace=False, shuffle=False))
    return np.array([f"id_{2 * number + last_bit:09x}" for number in numbers], object)


def _target_names(kind: str, count: int) -> tuple[str, ...]:
    # Two real names contain a comma, which a reader of CSV must expect.
    return tuple(
        f"{kind}_{i:03d},_second_type" if i in (1, 2) else f"{kind}_{i:03d}" for i in range(count)
    )


def _dataset(ids: np.ndarray, wells: _Wells, marginals: _Marginals, genes: int) -> Dataset:
    return Dataset(
        ids=ids,
        genes=tuple(f"g-{i}" for i in range(genes)),
        cells=tuple(f"c-{i}" for i in range(wells.latent.shape[1] - genes)),
        features=marginals(wells.latent),
        cp_time=np.asarray(ORIGINAL_LEVELS.cp_time)[wells.time],
        cp_dose=np.asarray(ORIGINAL_LEVELS.cp_dose, object)[wells.dose],
        is_control=wells.drug < 0,
    )


def _features_table(data: Dataset) -> pd.DataFrame:
    levels = ORIGINAL_LEVELS
    meta = {
        "sig_id": data.ids,
        "cp_type": np.where(data.is_control, levels.control, levels.treated),
        "cp_time": data.cp_time,
        "cp_dose": data.cp_dose,
    }
    values = pd.DataFrame(data.features, columns=[*data.genes, *data.cells])
    return pd.concat([pd.DataFrame(meta), values], axis=1)


def _targets_table(ids: np.ndarray, targets: Targets) -> pd.DataFrame:
    table = pd.DataFrame(targets.values, columns=list(targets.names))
    table.insert(0, "sig_id", ids)
    return table
