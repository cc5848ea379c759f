"""One file per system: what it reads, its features, its networks, its stages."""

from moa_jax.recipes import (
    baseline,
    deepinsight_cnn,
    nn_tabnet,
    profile_nn,
    simple_nn,
    three_stage_nn,
    two_heads_resnet,
)
from moa_jax.recipes.recipe import Recipe

# Every system's configuration by the name that a configuration file gives it.
RECIPES: dict[str, type[Recipe]] = {
    "baseline": baseline.Config,
    "deepinsight_cnn": deepinsight_cnn.Config,
    "nn_tabnet": nn_tabnet.Config,
    "profile_nn": profile_nn.Config,
    "simple_nn": simple_nn.Config,
    "three_stage_nn": three_stage_nn.Config,
    "two_heads_resnet": two_heads_resnet.Config,
}
