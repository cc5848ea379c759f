"""Data folders for tests of what reads them."""

import numpy as np
import pandas as pd
import pyarrow as pa

FILES = (
    "train_features", "train_targets_scored", "train_targets_nonscored", "train_drug",
    "test_features", "sample_submission",
)  # fmt: skip


def frames(rows=12, test_rows=5):
    generator = np.random.default_rng(0)

    def features(prefix, count):
        table = pd.DataFrame(
            {
                "sig_id": [f"{prefix}{i:03d}" for i in range(count)],
                "cp_type": ["ctl_vehicle" if i % 5 == 4 else "trt_cp" for i in range(count)],
                "cp_time": [(24, 48, 72)[i % 3] for i in range(count)],
                "cp_dose": [("D1", "D2")[i % 2] for i in range(count)],
            }
        )
        for name in ("g-0", "g-1", "g-2", "c-0", "c-1"):
            table[name] = generator.normal(size=count).round(4)
        return table

    train, test = features("0", rows), features("9", test_rows)
    ids = train["sig_id"]
    treated = (train["cp_type"] == "trt_cp").to_numpy()

    def labels(names):
        drawn = {name: ((generator.random(rows) < 0.4) & treated) * 1 for name in names}
        return pd.DataFrame({"sig_id": ids, **drawn})

    scored = labels(["one", "two, with comma"])
    return {
        "train_features": train,
        "train_targets_scored": scored,
        "train_targets_nonscored": labels(["three"]),
        "train_drug": pd.DataFrame({"sig_id": ids, "drug_id": [f"d{i // 2}" for i in range(rows)]}),
        "test_features": test,
        "sample_submission": pd.DataFrame(
            {"sig_id": test["sig_id"][::-1], "two, with comma": 0.5, "one": 0.5}
        ),
    }


def write(folder, content, suffix=".csv"):
    """Writes tables of one suffix; those of texts with commas, tabs or semicolons."""
    folder.mkdir(exist_ok=True)
    delimiter = {".tsv": "\t", ".txt": ";"}.get(suffix[:4], ",")
    for stem, frame in content.items():
        path = folder / f"{stem}{suffix}"
        if suffix == ".parquet":
            frame.to_parquet(path, index=False)
        elif suffix.endswith(".zst"):  # for which pandas wants another package
            with pa.CompressedOutputStream(path, "zstd") as packed:
                packed.write(frame.to_csv(index=False, sep=delimiter).encode())
        else:
            frame.to_csv(path, index=False, sep=delimiter)


def same(one, two):
    for field in ("ids", "features", "cp_time", "cp_dose", "is_control", "drug_id"):
        np.testing.assert_array_equal(getattr(one, field), getattr(two, field))
    assert (one.genes, one.cells) == (two.genes, two.cells)
    for field in ("scored", "nonscored"):
        a, b = getattr(one, field), getattr(two, field)
        assert a.names == b.names
        np.testing.assert_array_equal(a.values, b.values)
