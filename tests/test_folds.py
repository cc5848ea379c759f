"""Fold assignments: literal draws of the original's splitters, small data, the file."""

import json
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from iterstrat.ml_stratifiers import MultilabelStratifiedKFold

from moa_jax.data import folds

LABELS = np.array(
    [[int(digit) for digit in row] for row in "100 010 010 000 110 001 000 010 001 000".split()]
)


def digits(assigned):
    return " ".join(map(str, assigned))


def test_all_true_labels_give_a_blocked_random_split():
    found = folds.multilabel_stratified(np.ones((12, 331)), 5, 1903, always_true_label=True)
    assert digits(found) == "0 3 4 2 1 0 1 4 3 2 0 1"
    found = folds.multilabel_stratified(np.ones((23, 206)), 10, 4, always_true_label=True)
    assert digits(found) == "7 5 1 0 2 6 4 9 3 8 7 8 9 1 0 6 4 2 3 5 4 3 0"


@pytest.mark.parametrize("always_true_label", [False, True])
def test_unshuffled_split_draws_from_a_fresh_generator(always_true_label):
    found = folds.multilabel_stratified(LABELS, 2, 42, always_true_label=always_true_label)
    assert digits(found) == "1 1 0 0 0 0 0 1 1 1"


def test_shuffled_split():
    found = folds.multilabel_stratified(LABELS, 2, 34, shuffle=True)
    assert digits(found) == "1 1 1 0 0 0 1 0 1 0"


@pytest.mark.parametrize("seed", range(4))
def test_shuffled_split_is_the_library_splitter(seed):
    generator = np.random.default_rng(seed)
    labels = generator.random((90, 7)) < generator.uniform(0.02, 0.5, 7)
    splitter = MultilabelStratifiedKFold(5, shuffle=True, random_state=seed)
    found = folds.multilabel_stratified(labels, 5, seed, shuffle=True)
    for fold, (_, rows) in enumerate(splitter.split(labels, labels)):
        assert np.flatnonzero(found == fold).tolist() == rows.tolist()


def test_full_size_split_is_even_and_takes_seconds():
    generator = np.random.default_rng(0)
    prevalence = np.exp(generator.uniform(np.log(1 / 21948), np.log(832 / 21948), 206))
    labels = generator.random((21948, 206)) < prevalence
    start = time.monotonic()
    found = folds.multilabel_stratified(labels, 5, 42, always_true_label=True)
    assert time.monotonic() - start < 20
    assert set(np.bincount(found)) <= {4389, 4390}
    per_fold = np.stack([labels[found == fold].sum(0) for fold in range(5)])
    assert np.ptp(per_fold, axis=0).max() <= 2


def drugs_and_labels(seed=0):
    """Forty rare drugs of six rows, ten single ones and two frequent ones of thirty, shuffled."""
    generator = np.random.default_rng(seed)
    drugs = np.repeat([f"drug{i}" for i in range(52)], [6] * 40 + [1] * 10 + [30] * 2)
    of_drug = {drug: generator.random(8) < 0.2 for drug in np.unique(drugs)}
    drugs = generator.permutation(drugs)
    return drugs, np.stack([of_drug[drug] for drug in drugs])


def test_rare_drugs_stay_together_and_frequent_ones_spread():
    drugs, labels = drugs_and_labels()
    found = folds.drug_aware(labels, drugs, 5, 34)
    for drug in np.unique(drugs):
        assert len(set(found[drugs == drug])) == (5 if (drugs == drug).sum() == 30 else 1)
    assert np.bincount(found, minlength=5).min() > 50


def test_drug_aware_assignment_of_rare_drugs_follows_count_then_appearance():
    drugs = np.array(list("bbaaacd"))
    labels = np.array([[1, 0]] * 2 + [[0, 1]] * 3 + [[1, 0], [0, 1]])
    found = folds.drug_aware(labels, drugs, 2, 34)
    by_drug = folds.multilabel_stratified(
        np.array([[0, 1], [1, 0], [1, 0], [0, 1]]), 2, 34, shuffle=True
    )  # in the order a, b, c, d
    assert [found[drugs == drug][0] for drug in "abcd"] == by_drug.tolist()


@pytest.mark.parametrize("sizes", [[40], [1, 1, 40], [3, 3], [2] * 3 + [19], [25, 25]])
def test_drug_aware_on_few_drugs(sizes):
    drugs = np.repeat(np.arange(len(sizes)), sizes)
    found = folds.drug_aware(np.ones((len(drugs), 2)), drugs, 5, 34)
    assert found.min() >= 0 and found.max() < 5
    for drug, size in enumerate(sizes):
        assert len(set(found[drugs == drug])) == (5 if size > 18 else 1)


def test_k_fold_is_the_plain_shuffled_split():
    found = folds.k_fold(10, 3, 0)
    assert np.bincount(found).tolist() == [4, 3, 3]
    # The first fold takes the head of the permutation that the seed draws.
    head = np.random.RandomState(0).permutation(10)[:4]
    assert np.flatnonzero(found == 0).tolist() == sorted(head.tolist())


def test_k_fold_draws_the_folds_of_the_2_heads_network():
    path = Path(__file__).parent / "reference" / "resnet_folds.json"
    for seed, expected in json.loads(path.read_text()).items():
        assigned = folds.k_fold(21948, 10, int(seed))
        for fold, record in enumerate(expected):
            rows = np.flatnonzero(assigned == fold)
            assert record == {
                "n_train": len(assigned) - len(rows),
                "n_valid": len(rows),
                "first5_valid": rows[:5].tolist(),
                "sum_valid": rows.sum(),
                "crc32_valid_int64": zlib.crc32(rows.astype("<i8").tobytes()),
            }


def test_file_has_a_row_for_every_id_and_seed(tmp_path):
    ids = np.array(["001", "b"], object)
    folds.write(tmp_path / "folds.csv", ids, {7: np.array([0, 1]), 3: np.array([1, 1])})
    written = (tmp_path / "folds.csv").read_text()
    assert written == "sig_id,seed,fold\n001,7,0\nb,7,1\n001,3,1\nb,3,1\n"
