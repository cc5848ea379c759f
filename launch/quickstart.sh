#!/usr/bin/env bash
# Trains, blends and predicts the embedded real data, from nothing to a submission and a report.
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh" ""

workdir="${1:-runs/quickstart}"
.venv/bin/python -m moa_jax.launch --config=configs/quickstart.py --workdir="$workdir"

echo
echo "submission: $workdir/submission.csv"
echo "answers:    $workdir/blend/predictions.csv"
echo "scores:     $workdir/blend/weights.json"
echo "report:     $workdir/blend/report.html"
