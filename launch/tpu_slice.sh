#!/usr/bin/env bash
# Trains on a TPU slice of several hosts: gcloud runs launch/tpu_vm.sh on each of them. Every host
# has a checkout, CHECKOUT (moa_jax in the home folder); work folder and data folder are ones that
# all of them see, such as Filestore or a bucket that gcsfuse mounts. EXTRAS goes along.
# Usage: bash launch/tpu_slice.sh NAME ZONE --config=best_cv --workdir=/mnt/shared/best_cv [FLAG ...]
set -euo pipefail

if [ $# -lt 3 ] || [[ "$1" == -* || "$2" == -* ]]; then
  echo "usage: bash launch/tpu_slice.sh NAME ZONE --config=... --workdir=... [FLAG ...]" >&2
  exit 1
fi
name="$1" zone="$2"
shift 2
# Another shell reads the command once more.
extras="${EXTRAS:+EXTRAS=$(printf %q "$EXTRAS") }"
command="cd $(printf %q "${CHECKOUT:-moa_jax}") && ${extras}bash launch/tpu_vm.sh --distributed"
exec gcloud compute tpus tpu-vm ssh "$name" --zone="$zone" --worker=all \
  --command="$command$(printf ' %q' "$@")"
