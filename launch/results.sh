#!/usr/bin/env bash
# Trains both best blends on the embedded data, at sizes that suit it, and prints the tables of the
# README's results.
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh" ""

for blend in best_cv best_lb; do
  .venv/bin/python -m moa_jax.launch --config="configs/$blend.py:sample" \
    --workdir="runs/$blend" --config.blend.method=slsqp
done
.venv/bin/python benchmarks/baseline.py runs/best_cv runs/best_lb
