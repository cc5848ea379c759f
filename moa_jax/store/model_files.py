"""Model files: what the files of a model's folder are called, for those who write and read them."""

from __future__ import annotations

# Of a model and of each of its stages.
METRICS, OOF, TEST, FOLDS = "metrics.json", "oof.parquet", "test.parquet", "folds.csv"
# Of a model: how far its members are apart, and which of them it has chosen among many.
TEST_SPREAD, ENSEMBLE = "test_spread.parquet", "ensemble.json"
