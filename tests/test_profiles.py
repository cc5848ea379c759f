"""Columns of every dense profile, each by its name and what the originals make of it, and widths.

Columns are computed here by scikit-learn and pandas from the originals' description.
"""

import contextlib
import dataclasses
import inspect
import warnings

import jax
import numpy as np
import pandas as pd
import pytest
from sklearn.cluster import KMeans
from sklearn.decomposition import FactorAnalysis
from sklearn.preprocessing import QuantileTransformer
from systems import inputs_of, widths_of

from moa_jax.data import simulate
from moa_jax.data.dataset import Dataset, Targets
from moa_jax.features.umap import UmapEmbedding
from moa_jax.recipes import (
    deepinsight_cnn,
    nn_tabnet,
    nn_tabnet_profiles,
    simple_nn,
    three_stage_nn,
    two_heads_resnet,
)

GENES, CELLS = 6, 5
BLOCKS = {"g": slice(0, GENES), "c": slice(GENES, GENES + CELLS)}


class Rows:
    """Tiny data: raw values of training and test rows, controls among both."""

    def __init__(self):
        self.data = simulate.make(
            rows=70, genes=GENES, cells=CELLS, scored=3, nonscored=4, test_rows=25, seed=5
        )
        self.train = self.data.features
        self.every = np.concatenate([self.train, self.data.test.features])
        self.treated = ~self.data.is_control
        self.is_train = np.arange(len(self.every)) < len(self.train)

    def of_treated(self, columns):
        """The treated training rows of columns of all rows."""
        return {name: values[self.is_train][self.treated] for name, values in columns.items()}

    def treatment(self):
        rows = self.data.take(np.flatnonzero(self.treated))
        times = {f"cp_time_{time}": rows.cp_time == time for time in (24, 48, 72)}
        return times | {f"cp_dose_{dose}": rows.cp_dose == dose for dose in ("D1", "D2")}


@pytest.fixture(scope="module")
def rows():
    return Rows()


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


@contextlib.contextmanager
def quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def rank_gauss(fitted_on, values):
    transformer = QuantileTransformer(
        n_quantiles=min(100, len(fitted_on)), output_distribution="normal", subsample=None
    )
    return transformer.fit(fitted_on).transform(values)


def factors(values, count, seed):
    with quiet():
        return FactorAnalysis(count, random_state=seed).fit_transform(values)


def clusters(values, count, algorithm="lloyd"):
    model = KMeans(count, random_state=123, n_init=10, algorithm=algorithm)
    with quiet():
        return np.eye(count)[model.fit(values).predict(values)]


def components(fitted_on, values, count):
    """Principal components whose largest loading is positive."""
    mean = fitted_on.mean(axis=0)
    loadings = np.linalg.svd(fitted_on - mean, full_matrices=False)[2][:count]
    largest = loadings[np.arange(count), np.abs(loadings).argmax(axis=1)]
    return (values - mean) @ (loadings * np.sign(largest)[:, None]).T


def named(prefix, values):
    return {f"{prefix}{i}": column for i, column in enumerate(values.T)}


def statistics(blocks, *wanted):
    found = {}
    for name, block in blocks.items():
        frame = pd.DataFrame(block)
        of = {"kurt": frame.kurtosis(axis=1), "skew": frame.skew(axis=1), "sum": frame.sum(axis=1)}
        of |= {"mean": frame.mean(axis=1), "std": frame.std(axis=1)}
        # Of a row of equal values, here some at the lower end, what is not defined is 0.
        found |= {f"{name}_{kind}": of[kind].fillna(0).to_numpy() for kind in wanted}
    return found


def check(found, expected, names):
    """Every column is the one of its name; the names are those of the original, in its order."""
    assert list(expected) == names.split()
    assert found.shape[1] == len(expected)
    for index, (name, values) in enumerate(expected.items()):
        np.testing.assert_allclose(found[:, index], values, rtol=1e-9, atol=1e-9, err_msg=name)


SIMPLE_SIZES = {"gene_factors": 3, "cell_factors": 2}
SIMPLE_STATISTICS = (
    "g_sum g_mean g_std g_kurt g_skew c_sum c_mean c_std c_kurt c_skew "
    "gc_sum gc_mean gc_std gc_kurt gc_skew "
)
TREATMENT = "cp_time_24 cp_time_48 cp_time_72 cp_dose_D1 cp_dose_D2"


def simple_expected(rows, first_column, cluster_counts):
    """Rank-gauss on training rows, factors, rank-gauss of all from a column on, blocks by place."""
    table = rank_gauss(rows.train, rows.every)
    scores = [
        named("FA_G-", factors(table[:, BLOCKS["g"]], 3, 1903)),
        named("FA_C-", factors(table[:, BLOCKS["c"]], 2, 1903)),
    ]
    columns = named("g-", table[:, BLOCKS["g"]]) | named("c-", table[:, BLOCKS["c"]])
    columns |= scores[0] | scores[1]
    names = list(columns)[first_column:]
    table = rank_gauss(*[np.stack([columns[n] for n in names], axis=1)] * 2)
    expected = dict(zip(names, table.T, strict=True))
    # What stands where the genes and the cells would be: with a column lost, not quite these.
    blocks = {"g": table[:, :GENES], "c": table[:, GENES : GENES + CELLS]}
    for group, count in cluster_counts.items():
        expected |= named(f"clusters_{group}_", clusters(blocks[group], count))
    blocks["gc"] = table[:, : GENES + CELLS]
    expected |= statistics(blocks, "sum", "mean", "std", "kurt", "skew")
    return rows.of_treated(expected) | rows.treatment()


def test_simple_nn_with_old_cv(rows):
    """g-0 is lost; the blocks of clusters and statistics begin a column late."""
    recipe = dataclasses.replace(
        simple_nn.ORIGINAL["old"], gene_clusters=4, cell_clusters=2, **SIMPLE_SIZES
    )
    check(
        inputs_of(recipe, rows.data, "scored"),
        simple_expected(rows, 1, {"g": 4, "c": 2}),
        "g-1 g-2 g-3 g-4 g-5 c-0 c-1 c-2 c-3 c-4 FA_G-0 FA_G-1 FA_G-2 FA_C-0 FA_C-1 "
        "clusters_g_0 clusters_g_1 clusters_g_2 clusters_g_3 clusters_c_0 clusters_c_1 "
        + SIMPLE_STATISTICS
        + TREATMENT,
    )


def test_simple_nn_with_new_cv(rows):
    recipe = dataclasses.replace(simple_nn.ORIGINAL["new"], **SIMPLE_SIZES)
    check(
        inputs_of(recipe, rows.data, "scored"),
        simple_expected(rows, 0, {}),
        "g-0 g-1 g-2 g-3 g-4 g-5 c-0 c-1 c-2 c-3 c-4 FA_G-0 FA_G-1 FA_G-2 FA_C-0 FA_C-1 "
        + SIMPLE_STATISTICS
        + TREATMENT,
    )


class Marked:
    """Stands for an embedding: the first columns, less the mean of what it was fitted on."""

    made: list = []

    def __init__(self, num_components, seed=1903, keep_fitted=True):
        self.count = num_components
        self.made.append((num_components, seed, keep_fitted))

    def width(self, shape):
        return self.count

    def fit(self, values):
        self.mean = values.mean()
        return self

    def transform(self, values):
        return values[:, : self.count] - self.mean


def test_the_stand_in_takes_what_the_embedding_takes():
    defaults = [
        [(p.name, p.default) for p in inspect.signature(made).parameters.values()]
        for made in (Marked, UmapEmbedding)
    ]
    assert defaults[0] == defaults[1]


def marked(values, fitted_on, count):
    return values[:, :count] - fitted_on.mean()


def probabilities(rows, outputs):
    generator = np.random.default_rng(outputs)
    return 0.01 * generator.random((rows.treated.sum(), outputs))


def test_three_stage_nn(rows, monkeypatch):
    """Factors and embeddings are of raw values; earlier predictions stand before the treatment."""
    monkeypatch.setitem(three_stage_nn.EMBEDDINGS, "row_by_row", Marked)
    Marked.made.clear()
    sizes = three_stage_nn.FeaturesConfig(3, 2, gene_umap=2, cell_umap=1)
    recipe = dataclasses.replace(three_stage_nn.Config(), features=sizes)
    table = rank_gauss(rows.every, rows.every)
    genes, cells = rows.every[:, BLOCKS["g"]], rows.every[:, BLOCKS["c"]]
    expected = named("g-", table[:, BLOCKS["g"]]) | named("c-", table[:, BLOCKS["c"]])
    expected |= named("fa_G-", factors(genes, 3, 1903))
    expected |= named("umap_G-", marked(genes, genes, 2))
    expected |= named("fa_C-", factors(cells, 2, 1903))
    expected |= named("umap_C-", marked(cells, cells, 1))
    expected = rows.of_treated(expected)
    names = (
        "g-0 g-1 g-2 g-3 g-4 g-5 c-0 c-1 c-2 c-3 c-4 fa_G-0 fa_G-1 fa_G-2 umap_G-0 umap_G-1 "
        "fa_C-0 fa_C-1 umap_C-0 "
    )
    check(inputs_of(recipe, rows.data, "nonscored"), expected | rows.treatment(), names + TREATMENT)
    assert set(Marked.made) == {(2, 1903, True), (1, 1903, True)}
    first = probabilities(rows, 4)
    predicted = named("nonscored-", rank_gauss(first, first))
    check(
        inputs_of(recipe, rows.data, "scored", {"nonscored": first}),
        expected | predicted | rows.treatment(),
        names + "nonscored-0 nonscored-1 nonscored-2 nonscored-3 " + TREATMENT,
    )
    second = probabilities(rows, 3)
    check(
        inputs_of(recipe, rows.data, "stacked", {"nonscored": first, "scored": second}),
        named("scored-", rank_gauss(second, second)),
        "scored-0 scored-1 scored-2",
    )


def test_first_stage_of_nn_tabnet(rows, monkeypatch):
    """Components, embedding and the choice by variance know training rows alone."""
    monkeypatch.setitem(nn_tabnet_profiles.EMBEDDINGS, "row_by_row", Marked)
    Marked.made.clear()
    dense = dataclasses.replace(
        nn_tabnet.Config().nonscored, gene_components=6, cell_components=2, gene_umap=2,
        cell_umap=1,
    )  # fmt: skip
    recipe = dataclasses.replace(nn_tabnet.Config(), nonscored=dense)
    table = rank_gauss(rows.every, rows.every)
    expected = named("g-", table[:, BLOCKS["g"]]) | named("c-", table[:, BLOCKS["c"]])
    for group, count, dimensions in (("g", 6, 2), ("c", 2, 1)):
        block = table[:, BLOCKS[group]]
        train = block[rows.is_train]
        expected |= named(f"pca_{group.upper()}-", components(train, block, count))
        expected |= named(f"umap_{group.upper()}-", marked(block, train, dimensions))
    kept = {n: v for n, v in expected.items() if v[rows.is_train].var() > 0.5}
    assert set(expected) - set(kept) == {"pca_G-5", "pca_C-1"}
    check(
        inputs_of(recipe, rows.data, "nonscored"),
        rows.of_treated(kept) | rows.treatment(),
        "g-0 g-1 g-2 g-3 g-4 g-5 c-0 c-1 c-2 c-3 c-4 pca_G-0 pca_G-1 pca_G-2 pca_G-3 pca_G-4 "
        "umap_G-0 umap_G-1 pca_C-0 umap_C-0 " + TREATMENT,
    )
    assert set(Marked.made) == {(2, 512, False), (1, 512, False)}


def test_second_stage_of_nn_tabnet(rows):
    """Codes first; factors that share a name come twice; no sums; the first stage's predictions."""
    tabnet = dataclasses.replace(
        nn_tabnet.Config().scored, gene_factors=3, cell_factors=2, gene_clusters=4, cell_clusters=2
    )
    recipe = dataclasses.replace(nn_tabnet.Config(), scored=tabnet)
    table = rank_gauss(rows.train, rows.every)
    genes, cells = table[:, BLOCKS["g"]], table[:, BLOCKS["c"]]
    expected = named("g-", genes) | named("c-", cells)
    fa_g, fa_c = factors(genes, 3, 42), factors(cells, 2, 42)
    pairs = {
        f"{group}_pca-{i}": scores[:, i]
        for i in (0, 1)
        for group, scores in (("G", fa_g), ("C", fa_c))
    }
    expected |= pairs | {"G_pca-2": fa_g[:, 2]}
    expected |= {f"{name}_again": values for name, values in pairs.items()}
    expected |= named("clusters_g_", clusters(genes, 4, "elkan"))
    expected |= named("clusters_c_", clusters(cells, 2, "elkan"))
    blocks = {"g": genes, "c": cells, "gc": table}
    expected |= statistics(blocks, "mean", "std", "kurt", "skew")
    of_treated = rows.data.take(np.flatnonzero(rows.treated))
    codes = {
        "cp_time": np.searchsorted([24, 48, 72], of_treated.cp_time),
        "cp_dose": np.searchsorted(["D1", "D2"], of_treated.cp_dose.astype(str)),
    }
    first = probabilities(rows, 4)
    check(
        inputs_of(recipe, rows.data, "scored", {"nonscored": first}),
        codes | rows.of_treated(expected) | named("nonscored-", rank_gauss(first, first)),
        "cp_time cp_dose g-0 g-1 g-2 g-3 g-4 g-5 c-0 c-1 c-2 c-3 c-4 "
        "G_pca-0 C_pca-0 G_pca-1 C_pca-1 G_pca-2 "
        "G_pca-0_again C_pca-0_again G_pca-1_again C_pca-1_again "
        "clusters_g_0 clusters_g_1 clusters_g_2 clusters_g_3 clusters_c_0 clusters_c_1 "
        "g_mean g_std g_kurt g_skew c_mean c_std c_kurt c_skew gc_mean gc_std gc_kurt gc_skew "
        "nonscored-0 nonscored-1 nonscored-2 nonscored-3",
    )


def wide():
    """Rows of the competition's widths; 331 of 402 non-scored targets have a positive row."""
    rows, generator = 420, np.random.default_rng(0)
    nonscored = np.zeros((rows, 402), np.uint8)
    nonscored[np.arange(331), np.arange(331)] = 1
    genes, cells = (tuple(f"{kind}-{i}" for i in range(n)) for kind, n in (("g", 772), ("c", 100)))
    return Dataset(
        np.array([f"id_{i:03}" for i in range(rows)], object),
        genes,
        cells,
        generator.normal(size=(rows, 872)),
        np.tile([24, 48, 72], rows // 3),
        np.tile(["D1", "D2"], rows // 2).astype(object),
        np.arange(rows) >= 400,
        Targets(tuple(f"s{i}" for i in range(206)), np.eye(rows, 206, dtype=np.uint8)),
        Targets(tuple(f"n{i}" for i in range(402)), nonscored),
        np.array([f"drug{i // 2}" for i in range(rows)], object),
    )


WIDTHS = {
    "simple_nn_old": (simple_nn.ORIGINAL["old"], {"scored": 1091}),
    "simple_nn_new": (simple_nn.ORIGINAL["new"], {"scored": 1032}),
    "three_stage_nn": (
        three_stage_nn.Config(), {"nonscored": 1087, "scored": 1418, "stacked": 206}
    ),
    # Before the choice by variance, which leaves 949 of 957 of the original's data.
    "nn_tabnet": (nn_tabnet.Config(), {"nonscored": 957 + 5, "scored": 1497}),
    "two_heads_v1": (
        two_heads_resnet.ORIGINAL["v1"], {"nonscored": 976, "scored": 976, "loop": 976}
    ),
    "two_heads_v2": (
        two_heads_resnet.ORIGINAL["v2"], {"nonscored": 979, "scored": 979, "loop": 979}
    ),
    "deepinsight_cnn": (deepinsight_cnn.ORIGINAL["efficientnet_b3"], {"scored": 875}),
}  # fmt: skip


@pytest.mark.parametrize("name", WIDTHS)
def test_widths_of_the_competitions_data(name, tmp_path):
    recipe, expected = WIDTHS[name]
    if hasattr(recipe, "seeds"):
        recipe = dataclasses.replace(recipe, seeds=recipe.seeds[:1])
    elif name == "nn_tabnet":
        few = {"seeds": (0,), "split_seeds": (512,)}
        recipe = dataclasses.replace(
            recipe,
            nonscored=dataclasses.replace(recipe.nonscored, **few),
            scored=dataclasses.replace(recipe.scored, seeds=(0,)),
        )
    assert widths_of(recipe, wide(), tmp_path) == expected
