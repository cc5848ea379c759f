"""Entry of the command line: flags -> configuration -> train, infer, blend, or all of them.

python -m moa_jax.launch --config=configs/quickstart.py --workdir=runs/quickstart
"""

from moa_jax.command.entry import cli, main
from moa_jax.command.flags import MODES

__all__ = ["MODES", "cli", "main"]

if __name__ == "__main__":
    cli()
