#!/usr/bin/env bash
# Trains on the TPU VM that it runs on, or, given --distributed, on a pod slice together with the
# other hosts, every one of which runs the same command:
#   gcloud compute tpus tpu-vm ssh NAME --zone=ZONE --worker=all --command="cd moa_jax && \
#     bash launch/tpu_vm.sh --distributed --config=best_cv --workdir=/mnt/shared/best_cv"
# A slice's work folder and data folder are ones that all hosts see, such as Filestore or a bucket
# mounted by gcsfuse.
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh" tpu

exec .venv/bin/python -m moa_jax.launch "$@"
