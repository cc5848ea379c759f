"""One file per system: what it reads, its features, its networks, its stages."""

from moa_jax.recipes import simple_nn
from moa_jax.recipes.recipe import Context, RecipeResult, is_finished

RECIPES = {"simple_nn": simple_nn}
CONFIGS = {name: recipe.Config for name, recipe in RECIPES.items()}

__all__ = ["CONFIGS", "RECIPES", "Context", "RecipeResult", "is_finished"]
