"""The packaged configurations: in a checkout, the files of its own top-level folder `configs`.

An installed wheel has those files here, in the place of this one.
"""

from pathlib import Path

__path__ = [str(Path(__file__).parents[2] / "configs")]
