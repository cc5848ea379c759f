"""Weights from the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path

from moa_jax.errors import UserError


def download(repository: str, name: str) -> Path:
    """Returns the path of a file of a repository, kept in the hub's own cache folder.

    Args:
      repository: such as `timm/tf_efficientnet_b3.ns_jft_in1k`.
      name: such as `model.safetensors`.

    Raises:
      UserError: there is no network, no such file, or huggingface_hub is not installed.
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
        return Path(huggingface_hub.hf_hub_download(repository, name))
    # The library passes on the errors of whichever HTTP client it was installed with.
    except Exception as error:
        reason = (str(error).splitlines() or [""])[0] or type(error).__name__
        raise UserError(f"hub: {repository}: {name}: cannot be downloaded: {reason}") from error
