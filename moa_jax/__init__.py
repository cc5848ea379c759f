"""moa_jax: mechanisms of action from gene expression and cell viability, in JAX and Flax."""

__version__ = "0.1.0"


def __getattr__(name: str):
    # The estimator brings JAX and scikit-learn along, which most who import the package need not
    # wait for.
    if name == "TabNetClassifier":
        from moa_jax.estimator import TabNetClassifier

        return TabNetClassifier
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
