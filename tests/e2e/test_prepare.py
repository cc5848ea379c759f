"""A screening table to a report in two commands, and new rows of the raw table."""

import json

import pandas as pd
from e2e.conftest import TINY
from prepare import screens

from moa_jax.prepare.__main__ import main


def test_from_a_table_to_a_report(launch, tmp_path):
    table = screens.cell_painting(tmp_path / "wells.csv")
    folder, workdir = tmp_path / "data", tmp_path / "run"
    main([str(tmp_path / "wells.csv"), f"--out={folder}", "--preset=pycytominer"])
    result = launch(
        workdir, f"--config.data.folder={folder}", "--config.data.groups=compound",
        config=f"{TINY}:simple_nn_old",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert (workdir / "blend" / "report.html").exists()
    submission = pd.read_csv(workdir / "submission.csv")
    to_predict = table["Metadata_moa"].isna() & (table["Metadata_broad_sample"] != "DMSO")
    assert len(submission) == to_predict.sum()
    assert list(submission.columns[1:]) == ["agonist", "channel blocker", "kinase inhibitor"]
    stored = json.loads((workdir / "config.json").read_text())
    assert stored["config"]["data"]["cp_doses"] == ["0.37", "10.0"]
    assert stored["data"]["prepared"]["roles"]["compound"] == "Metadata_broad_sample"
    # With the work folder and the raw table alone: the folder of data is gone.
    folder.rename(tmp_path / "elsewhere")
    new = tmp_path / "wells.csv"
    result = launch(workdir, "--mode=infer", f"--config.data.test_features={new}", config=None)
    assert result.returncode == 0, result.stderr
    (written,) = workdir.glob("infer/wells.csv-*/submission.csv")
    again = pd.read_csv(written).set_index("sig_id")
    pd.testing.assert_frame_equal(again.loc[submission["sig_id"]], submission.set_index("sig_id"))
    # What is said of the compounds to predict is said of them again.
    answered = pd.read_parquet(workdir / "blend" / "predictions.parquet")
    compounds = table.loc[to_predict, "Metadata_broad_sample"]
    lines = answered[answered["compound"].notna()].set_index(["compound", "mechanism"])
    assert lines.groupby("compound")["replicates"].first().to_dict() == dict(
        compounds.value_counts()
    )
    again = pd.read_parquet(written.with_name("predictions.parquet"))
    again = again[again["compound"].notna()].set_index(["compound", "mechanism"])
    unseen = ~compounds.isin(table.loc[~to_predict, "Metadata_broad_sample"])
    kept = lines[lines.index.isin(compounds[unseen], level=0)]
    assert len(kept)
    pd.testing.assert_frame_equal(again.loc[kept.index], kept, rtol=1e-5)
