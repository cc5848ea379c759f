"""Entry of the command line: flags -> configuration -> train, infer, blend, or all of them.

python -m moa_jax.launch --config=configs/quickstart.py --workdir=runs/quickstart
"""

import sys

from moa_jax.errors import UnsupportedSystem


def cli() -> None:
    """Runs the command line.

    A user's mistake or a full disk is one line and exit status 1; Ctrl-C, SIGTERM and SIGUSR1 are
    one line and 130, 143 and 138.
    """
    try:
        from moa_jax.store import ending
    except UnsupportedSystem as error:
        sys.exit(f"moa-jax: {error}")
    with ending.in_one_line():
        # Ctrl-C is looked after while modules are read.
        from moa_jax.command import entry

        entry.cli()


if __name__ == "__main__":
    cli()
