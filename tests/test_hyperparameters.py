"""Every hyperparameter of every full-size configuration, as tables to hold against the originals.

A row is a field of a model's configuration; a single value is that of all columns. Rows must be all
fields that there are: a field that is added needs a value here.
"""

import ast
import importlib

import pytest

from moa_jax import config as configuration
from moa_jax.recipes import RECIPES

# Fields that every model has: what the original's folds keep whole is up to each.
SPLIT = {"split": "original", "frequent_above": 18}

SIMPLE_NN = """
field                  | old           | new
recipe                 | "simple_nn"
cv                     | "old"         | "new"
folds                  | 5
split_seed             | 42            | 34
seeds                  | [940, 1513, 1269, 1392, 1119, 1303]
drop_first_gene        | True          | False
gene_factors           | 90
cell_factors           | 50
gene_clusters          | 45            | 0
cell_clusters          | 15            | 0
transforms             | "all"
select_on              | "fold"
hidden                 | 2048
dropout                | [0.0, 0.25, 0.25]
epochs                 | 25
batch_size             | 128
loss                   | "binary_cross_entropy"
label_smoothing        | 0.001
smooth_validation      | False
validation_mean        | "by_batch"
optimizer              | "adam_cycled"
weight_decay           | 1e-5
schedule               | "one_cycle"
max_learning_rate      | 1e-2
pct_start              | 0.1
patience               | 0
share_init_across_folds| True
"""

THREE_STAGE_NN = """
field                  | five          | ten
recipe                 | "three_stage_nn"
folds                  | 5             | 10
seeds                  | [0, 1, 2, 3, 4]
stratify_on            | "clipped"
same_folds             | False
nested_blocks          | 0
transforms             | "all"
select_on              | "fold"
features.gene_factors  | 90
features.cell_factors  | 50
features.umap          | True
features.umap_new_rows | "row_by_row"
features.gene_umap     | 45
features.cell_umap     | 25
"""

# The three stages of the 3-stage NN, and the first of NN + TabNet.
DENSE_STAGES = """
field                  | nonscored | scored | stacked | before_tabnet
hidden                 | 2048      | 2048   | 1024    | 2048
dropout                | [0.15, 0.3, 0.25] | [0.15, 0.3, 0.25] | [0.15, 0.3, 0.25] | [0.2, 0.25]
epochs                 | 15        | 25     | 25      | 15
batch_size             | 256
loss                   | "binary_cross_entropy"
label_smoothing        | 0.001     | 0.0    | 0.001   | 0.0
smooth_validation      | True      | False  | True    | False
validation_mean        | "by_batch"
optimizer              | "adam_cycled"
weight_decay           | 1e-5
schedule               | "one_cycle"
max_learning_rate      | 1e-2
pct_start              | 0.2
patience               | 0
share_init_across_folds| True
split_seed             | 1903      | 4      | 4       |
seeds                  |           |        |         | [0, 1, 2, 3, 4]
split_seeds            |           |        |         | [512, 0, 1, 2, 3]
gene_components        |           |        |         | 50
cell_components        |           |        |         | 15
umap                   |           |        |         | True
umap_new_rows          |           |        |         | "row_by_row"
gene_umap              |           |        |         | 15
cell_umap              |           |        |         | 5
variance_threshold     |           |        |         | 0.5
"""

NN_TABNET = """
field                           | only
recipe                          | "nn_tabnet"
folds                           | 10
same_folds                      | False
nested_blocks                   | 0
transforms                      | "all"
select_on                       | "fold"
scored.seeds                    | [0, 1, 2]
scored.gene_factors             | 90
scored.cell_factors             | 50
scored.gene_clusters            | 35
scored.cell_clusters            | 5
scored.duplicate_factor_columns | True
scored.n_d                      | 32
scored.n_a                      | 32
scored.n_steps                  | 1
scored.gamma                    | 1.3
scored.n_independent            | 2
scored.n_shared                 | 2
scored.mask_type                | "entmax"
scored.virtual_batch_size       | 128
scored.lambda_sparse            | 0.0
scored.epochs                   | 200
scored.batch_size               | 1024
scored.patience                 | 50
scored.optimizer                | "adam"
scored.learning_rate            | 2e-2
scored.weight_decay             | 1e-5
scored.clip                     | 1.0
scored.schedule                 | "multi_step"
scored.milestones               | [100, 150]
scored.decay                    | 0.9
scored.loss                     | "log_loss_epsilon"
scored.label_smoothing          | 0.001
scored.share_init_across_folds  | True
"""

TWO_HEADS_RESNET = """
field                  | v1            | v2
recipe                 | "two_heads_resnet"
version                | "v1"          | "v2"
seeds                  | [23, 228, 1488, 1998, 2208, 2077, 404]
folds                  | 10
one_hot                | False         | True
gene_components        | 2             | 50
cell_components        | 100           | 50
predictors             | "listed"
restore_best           | "if_stopped"
num_predictors         | 447
hidden                 | 512
epochs                 | 50
batch_size             | 128           | 64
learning_rate          | 1e-3
loss                   | "binary_cross_entropy"
optimizer              | "keras_adam"
schedule               | "constant"
label_smoothing        | 0.0005
patience               | 10
min_delta              | 1e-5
plateau_patience       | 4
plateau_factor         | 0.5
select_on              | "fold"
freeze_loop            | "faithful"
loop_epochs            | 200
oof                    | "after_loop"
"""

DEEPINSIGHT_CNN = """
field                  | b3                | r1                        | r2
recipe                 | "deepinsight_cnn"
version                | "efficientnet_b3" | "resnest_v1"              | "resnest_v2"
network                | "efficientnet_b3" | "resnest50_fast_2s2x40d"  | "resnest50_fast_2s2x40d"
seeds                  | [1120]
folds                  | 10
fold_seed              | 1120
resolution             | 300               | 224                       | 224
embedding              | "tsne"
tsne                   | "legacy"
perplexity             | 5.0
closing_edge           | False
swap_probability       | 0.1
swap_portion           | 0.15
batch_size             | 48                | 128                       | 128
epochs                 | 200
learning_rate          | 3.52e-4
half_period            | 5
weight_decay           | 1e-6
loss                   | "binary_cross_entropy"
optimizer              | "radam"
schedule               | "cosine"
clip_norm              | 10.0
label_smoothing        | 0.001
patience               | 12                | 16                        | 16
min_delta              | 1e-6
head_width             | 512
drop_rate              | 0.3               | 0.0                       | 0.2
drop_connect_rate      | 0.2               | 0.0                       | 0.0
pretrained             | "auto"
dtype                  | "auto"
remat                  | False
select_on              | "fold"
"""

# It has no original: it finds what suits the data.
PROFILE_NN = """
field                  | only
recipe                 | "profile_nn"
members                | 40
inputs                 | ["standard", "standard", "rank_gauss", "components", "components"]
widths                 | [128, 128, 128, 128, 256]
depths                 | [0, 1, 1, 1, 2]
components             | 100
folds                  | 5
split                  | "auto"
frequent_above         | 0
nested                 | False
select_on              | "last"
split_seed             | 0
draw_seed              | 0
choices                | 30
mean                   | "auto"
batch_size             | 64
epoch_steps            | 50
pct_start              | 0.1
patience               | 0
steps                  | [60, 3000]
learning_rate          | [1e-3, 1e-2]
weight_decay           | [1e-5, 1e-1]
ridge                  | [3e-2, 3e2]
dropout                | [0.0, 0.6]
input_dropout          | [0.0, 0.5]
input_noise            | [0.0, 0.5]
label_smoothing        | [1e-4, 3e-2]
"""

# It has none either.
BASELINE = """
field                  | logistic      | trees         | viability
recipe                 | "baseline"
model                  | "logistic"    | "trees"       | "viability"
optional               | False         | True          | True
components             | 100
c                      | [1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0, 3.0, 10.0]
rounds                 | [5, 7, 10, 14, 20, 28, 40, 57, 80, 113, 160, 226, 320, 453, 640, 905, 1280, 1810]
tree_rate              | 0.1
leaves                 | 8
leaf_rows              | 5
tree_ridge             | 1.0
tree_rows              | 0.8
tree_columns           | 60
inner_folds            | 3
folds                  | 5
split                  | "auto"
frequent_above         | 0
split_seed             | 0
"""  # noqa: E501
BASELINES = {name: f"baseline/{name}" for name in ("logistic", "trees", "viability")}

# Convention of the printed score, and the recorded log loss of treated rows where there is one.
SCORES = {
    "simple_nn/old": ("printed", 0.015846),
    "simple_nn/new": ("printed", 0.016976),
    "three_stage_nn/five": ("printed", 0.015606),
    "three_stage_nn/ten": ("printed", 0.015461),
    "nn_tabnet/only": ("printed_treated", 0.016234),
    "two_heads_resnet/v1": ("epsilon", 0.015887),
    "two_heads_resnet/v2": ("epsilon", 0.015660),
    "profile_nn/only": (None, None),
    **dict.fromkeys(BASELINES.values(), (None, None)),
    "deepinsight_cnn/b3": ("epsilon_all", 0.016016),
    "deepinsight_cnn/r1": ("epsilon_all", 0.015819),
    "deepinsight_cnn/r2": ("epsilon_all", 0.015756),
}

# Models of each configuration: the table and its column.
CONFIGURATIONS = {
    "simple_nn": {"simple_nn_old": "simple_nn/old", "simple_nn_new": "simple_nn/new"},
    "simple_nn:old": {"simple_nn_old": "simple_nn/old"},
    "simple_nn:new": {"simple_nn_new": "simple_nn/new"},
    "three_stage_nn": {"three_stage_nn": "three_stage_nn/five"},
    "three_stage_nn:ten_folds": {"three_stage_nn": "three_stage_nn/ten"},
    "nn_tabnet": {"nn_tabnet": "nn_tabnet/only"},
    "two_heads_resnet": {"two_heads_resnet": "two_heads_resnet/v1"},
    "two_heads_resnet:v2": {"two_heads_resnet": "two_heads_resnet/v2"},
    "profiles": {"profile_nn": "profile_nn/only", **BASELINES},
    "profiles:networks": {"profile_nn": "profile_nn/only"},
    "baseline": BASELINES,
    "deepinsight_efficientnet_b3": {"efficientnet_b3": "deepinsight_cnn/b3"},
    "deepinsight_resnest": {"resnest_v1": "deepinsight_cnn/r1"},
    "deepinsight_resnest:v2": {"resnest_v2": "deepinsight_cnn/r2"},
    "best_cv": {
        "three_stage_nn": "three_stage_nn/ten",
        "two_heads_resnet": "two_heads_resnet/v2",
        "efficientnet_b3": "deepinsight_cnn/b3",
        "resnest_v1": "deepinsight_cnn/r1",
        "resnest_v2": "deepinsight_cnn/r2",
    },
    "best_lb": {
        "three_stage_nn": "three_stage_nn/five",
        "nn_tabnet": "nn_tabnet/only",
        "simple_nn_old": "simple_nn/old",
        "simple_nn_new": "simple_nn/new",
        "two_heads_resnet": "two_heads_resnet/v1",
        "efficientnet_b3": "deepinsight_cnn/b3",
        "resnest_v2": "deepinsight_cnn/r2",
    },
}

# (0.37 A + 0.10 C + 0.18 D + 0.15 E) 0.9 + 0.10 F + 0.09 G + 0.09 B on the leaderboard.
BLENDS = """
weight                 | best_cv       | best_lb
method                 | "slsqp"       | "fixed"
three_stage_nn         | 0.36704255    | 0.333
two_heads_resnet       | 0.0808577     | 0.09
efficientnet_b3        | 0.17120266    | 0.162
resnest_v1             | 0.10876667    |
resnest_v2             | 0.27213043    | 0.135
nn_tabnet              |               | 0.1
simple_nn_old          |               | 0.09
simple_nn_new          |               | 0.09
"""


def columns(table):
    """The columns of a table by name, each with its values by field; empty places are left out."""
    head, *rows = ([cell.strip() for cell in line.split("|")] for line in table.split("\n")[1:-1])
    found = {name: {} for name in head[1:]}
    for field, *cells in rows:
        assert len(cells) in (1, len(found)), field
        cells = cells * len(found) if len(cells) == 1 else cells
        for values, cell in zip(found.values(), cells, strict=True):
            if cell:
                assert field not in values
                values[field] = ast.literal_eval(cell)
    return found


def section(name, values):
    return {f"{name}.{field}": value for field, value in values.items()}


def every_column():
    """The columns of all models, by `recipe/column`."""
    stages = columns(DENSE_STAGES)
    three = {}
    for name in ("nonscored", "scored", "stacked"):
        three |= section(name, stages[name])
    tables = {
        "simple_nn": (SIMPLE_NN, {}),
        "three_stage_nn": (THREE_STAGE_NN, three),
        "nn_tabnet": (NN_TABNET, section("nonscored", stages["before_tabnet"])),
        "two_heads_resnet": (TWO_HEADS_RESNET, {}),
        "deepinsight_cnn": (DEEPINSIGHT_CNN, {}),
        "profile_nn": (PROFILE_NN, {}),
        "baseline": (BASELINE, {}),
    }
    return {
        f"{recipe}/{name}": SPLIT | values | common
        for recipe, (table, common) in tables.items()
        for name, values in columns(table).items()
    }


EXPECTED = every_column()


def parsed(name):
    file, _, variant = name.partition(":")
    module = importlib.import_module(f"moa_jax.configs.{file}")
    made = module.get_config(variant) if variant else module.get_config()
    return configuration.parse(made.to_dict(), RECIPES)


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_every_field_has_the_originals_value(name):
    models = parsed(name).models
    assert models.keys() == CONFIGURATIONS[name].keys()
    for model, column in CONFIGURATIONS[name].items():
        assert configuration.flat(configuration.plain(models[model])) == EXPECTED[column], model


@pytest.mark.parametrize("name", ["best_cv", "best_lb"])
def test_blends(name):
    expected, blend = columns(BLENDS)[name], parsed(name).blend
    assert blend.method == expected.pop("method")
    assert blend.weights == expected and not blend.files and blend.prior == 0


def test_printed_scores_and_recorded_ones():
    found = {
        column: (parsed(name).models[model].convention, parsed(name).models[model].recorded_score)
        for name, models in CONFIGURATIONS.items()
        for model, column in models.items()
    }
    assert found == SCORES


def test_every_full_size_configuration_is_here():
    """Quickstart is of the sample's size and trains nothing else; `blend_files` trains nothing."""
    from importlib import resources

    files = {
        file.name.removesuffix(".py")
        for file in resources.files("moa_jax.configs").iterdir()
        if file.name.endswith(".py") and not file.name.startswith("_")
    }
    named = {name.partition(":")[0] for name in CONFIGURATIONS}
    assert files - named <= {"quickstart", "blend_files"} and named
