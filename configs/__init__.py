"""Configurations, installed as `moa_jax.configs`; `--config=NAME` finds them by name."""
