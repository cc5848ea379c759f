"""Command line: published weights of an image network -> npz of Flax variables.

python -m moa_jax.pretrained --arch=efficientnet_b3 --input=FILE.pth --output=FILE.npz
python -m moa_jax.pretrained --arch=efficientnet_b3 --hub=timm/tf_efficientnet_b3.ns_jft_in1k \
    --output=FILE.npz
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import jax
from absl import app, flags

from moa_jax.errors import UserError
from moa_jax.pretrained.architectures import convert, converters
from moa_jax.pretrained.claims import described
from moa_jax.pretrained.hub import download
from moa_jax.pretrained.weight_files import SAFETENSORS, write
from moa_jax.store import ending, streams

_ARCH = flags.DEFINE_enum(
    "arch",
    None,
    list(converters()),
    "The network. efficientnet_* are TensorFlow's, which others call tf_efficientnet_*; "
    "torch_efficientnet_* those that timm and torchvision call efficientnet_*. Where the file "
    "tells nothing, this decides.",
)
_INPUT = flags.DEFINE_string("input", None, "PyTorch's file, or a .safetensors one.")
_HUB = flags.DEFINE_string("hub", None, "Instead of --input: repository on the Hugging Face hub.")
_HUB_FILE = flags.DEFINE_string("hub_file", f"model{SAFETENSORS}", "Its file.")
_KEY = flags.DEFINE_string(
    "key", None, "Which state dict, where a file has several, such as state_dict_ema."
)
_OUTPUT = flags.DEFINE_string("output", None, "The .npz file to write.")


def main(argv: Sequence[str]) -> None:
    if len(argv) > 1:
        raise UserError(f"unexpected argument {argv[1]!r}; see --help")
    architecture, output = _required(_ARCH), Path(_required(_OUTPUT))
    if (_INPUT.value is None) == (_HUB.value is None):
        raise UserError("expected either --input or --hub")
    if output.suffix != ".npz":
        raise UserError(f"--output: {output}: expected a name that ends in .npz")
    if _HUB.value is not None:
        path, source = download(_HUB.value, _HUB_FILE.value), f"{_HUB.value}/{_HUB_FILE.value}"
    else:
        path = Path(_required(_INPUT))
        source = path.name
    pretrained = convert(architecture, path, source, _KEY.value)
    write(output, pretrained)
    count = sum(leaf.size for leaf in jax.tree.leaves(pretrained.variables["params"]))
    streams.say(
        f"{output}: {described(architecture)}; {count:,} parameters of {source}, "
        f"SHA-256 {pretrained.source_sha256}"
    )


def _required(flag: flags.FlagHolder[str | None]) -> str:
    if flag.value is None:
        raise UserError(f"--{flag.name}: expected a value; see --help")
    return flag.value


def parse_flags(argv: Sequence[str]) -> list[str]:
    try:
        return flags.FLAGS(argv)
    except flags.Error as error:
        raise UserError(f"flags: {' '.join(str(error).split())}") from None


def cli() -> None:
    """Runs the command line; a user's mistake is one line and exit status 1."""
    with ending.in_one_line():
        app.run(main, flags_parser=parse_flags)


if __name__ == "__main__":
    cli()
