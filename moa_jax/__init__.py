"""moa_jax: mechanisms of action from gene expression and cell viability, in JAX and Flax.

`MechanismClassifier` has the ensembles of the command line in scikit-learn's manner; the TabNet
estimators and `DeepInsight` are for any table. `__all__` lists what is public.
"""

import importlib

__version__ = "0.1.0"


# Where the estimators are. They bring JAX and scikit-learn along, which most who import the package
# need not wait for.
_ESTIMATORS = {
    "DeepInsight": "moa_jax.estimators.deep_insight",
    "MechanismClassifier": "moa_jax.estimators.mechanism_classifier",
    "TabNetClassifier": "moa_jax.estimators.tabnet_classifier",
    "TabNetPretrainer": "moa_jax.estimators.tabnet_pretrainer",
    "TabNetRegressor": "moa_jax.estimators.tabnet_regressor",
}
__all__ = ["__version__", *_ESTIMATORS]  # noqa: PLE0604


def __getattr__(name: str):
    if name in _ESTIMATORS:
        return getattr(importlib.import_module(_ESTIMATORS[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_ESTIMATORS})
