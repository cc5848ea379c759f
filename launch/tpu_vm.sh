#!/usr/bin/env bash
# Trains on the chips of the TPU VM that it runs on. Of a slice of several hosts every one runs the
# same command, with --distributed: launch/tpu_slice.sh starts that from elsewhere.
# Usage: bash launch/tpu_vm.sh --config=best_cv --workdir=runs/best_cv [FLAG ...]
# EXTRAS=torch is for image networks, whose published weights PyTorch reads.
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh" tpu

# Without this, a host whose chips are not found would train on its CPU.
export JAX_PLATFORMS="${JAX_PLATFORMS:-tpu}"
exec .venv/bin/python -m moa_jax.launch "$@"
