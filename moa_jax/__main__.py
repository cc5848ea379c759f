"""`python -m moa_jax` is short for `python -m moa_jax.launch`."""

from moa_jax.launch import cli

cli()
