"""Weights from the Hugging Face hub."""

from __future__ import annotations

import re
from pathlib import Path

from moa_jax.errors import UserError, first_line
from moa_jax.store import files

_SHA256 = re.compile(r"[0-9a-f]{64}")


def download(repository: str, name: str) -> Path:
    """Returns the path of a file of a repository, kept in the hub's own cache folder.

    A large file's name in that cache is the SHA-256 which the hub states of it, and is held
    against the content.

    Args:
      repository: such as `timm/tf_efficientnet_b3.ns_jft_in1k`.
      name: such as `model.safetensors`.

    Raises:
      UserError: there is no network, no such file, or huggingface_hub is not installed; or the
        content is not what the hub states.
    """
    try:
        import huggingface_hub
        from huggingface_hub.utils import logging
    except ImportError:
        raise UserError(
            f"hub: {repository}: needs huggingface_hub: pip install 'moa-jax[hub]'"
        ) from None
    logging.set_verbosity_error()  # it would tell of each of its tries
    try:
        path = Path(huggingface_hub.hf_hub_download(repository, name))
    # The library passes on the errors of whichever HTTP client it was installed with.
    except Exception as error:
        raise UserError(
            f"hub: {repository}: {name}: cannot be downloaded: {first_line(error)}"
        ) from error
    stated = path.resolve().name
    if _SHA256.fullmatch(stated) and files.sha256(path) != stated:
        raise UserError(f"{path}: damaged, expected SHA-256 {stated}")
    return path
