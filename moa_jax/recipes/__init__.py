"""One file per system: what it reads, its features, its networks, its stages."""

from moa_jax.recipes import (
    deepinsight_cnn,
    nn_tabnet,
    simple_nn,
    three_stage_nn,
    two_heads_resnet,
)
from moa_jax.recipes.recipe import Context, RecipeResult, drawn_maps, is_finished

RECIPES = {
    "deepinsight_cnn": deepinsight_cnn,
    "nn_tabnet": nn_tabnet,
    "simple_nn": simple_nn,
    "three_stage_nn": three_stage_nn,
    "two_heads_resnet": two_heads_resnet,
}
CONFIGS = {name: recipe.Config for name, recipe in RECIPES.items()}

__all__ = ["CONFIGS", "RECIPES", "Context", "RecipeResult", "drawn_maps", "is_finished"]
