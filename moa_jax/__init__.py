"""moa_jax: mechanisms of action from gene expression and cell viability, in JAX and Flax."""

__version__ = "0.1.0"
