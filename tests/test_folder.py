"""Files of a data folder: what only looks like a known one is never left out in silence."""

import bz2
import lzma
import os
import zipfile

import pytest
from data_folders import frames, write

from moa_jax.data import tables
from moa_jax.data.dataset import ORIGINAL_LEVELS
from moa_jax.errors import UserError


@pytest.fixture
def data(tmp_path):
    write(tmp_path / "data", frames())
    return tmp_path / "data"


def renamed(folder, name, change=bytes):
    """Gives the test features another name, and other bytes."""
    content = (folder / "test_features.csv").read_bytes()
    (folder / "test_features.csv").unlink()
    (folder / name).write_bytes(change(content))


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("Test_Features.CSV", bytes),
        ("test_features.CSV", bytes),
        ("TEST_FEATURES.parquet", bytes),
        ("test_features.csv.BZ2", bz2.compress),
        ("test_features.csv.lzma", lzma.compress),
        ("test_features.csv.7z", bytes),
        ("test_features.tab", bytes),
        ("test_features.feather", bytes),
        ("test_features.xlsx", bytes),
        ("test_features.csv.part", bytes),
        ("test_features", bytes),
        ("test features.csv", bytes),
        ("test-features.csv", bytes),
    ],
)
def test_a_known_stem_that_is_not_read_is_an_error(data, name, change):
    renamed(data, name, change)
    with pytest.raises(UserError) as caught:
        tables.load(data)
    assert str(caught.value) == (
        f"{data / name}: not read; test_features is read from .csv, .tsv, .txt, these packed (.gz, "
        ".zip, .bz2, .xz, .zst), or .parquet: rename or convert it, or move it elsewhere"
    )


@pytest.mark.parametrize("stem", ["train_drug", "train_targets_nonscored", "sample_submission"])
def test_every_optional_file_is_looked_for(data, stem):
    (data / f"{stem}.csv").rename(data / f"{stem.title()}.csv")
    with pytest.raises(UserError, match=f"{stem.title()}.csv: not read; {stem} is read from"):
        tables.load(data)


@pytest.mark.parametrize(
    "name",
    [
        "test_features (1).csv", "test_features_old.csv", "test_feature.csv", "1 test_features.csv",
        "test.csv", "features_test.csv", "X_test.csv", "test_data.csv", "Test2.parquet",
        "testset.gz",
    ],
)  # fmt: skip
def test_names_that_are_alike_are_told(data, caplog, name):
    renamed(data, name)
    (data / "sample_submission.csv").unlink()
    with caplog.at_level("WARNING", logger="absl"):
        assert tables.load(data).test is None
    (line,) = (record.getMessage() for record in caplog.records)
    assert line.startswith(f"{data / name}: not read; test_features is read from ")


@pytest.mark.parametrize(
    ("stem", "name"),
    [
        ("sample_submission", "submission_sample.csv"),
        ("sample_submission", "submission_format.csv"),
        ("train_drug", "drugs.csv"),
        ("train_drug", "drug_train.csv"),
        ("train_targets_nonscored", "nonscored.csv"),
        ("train_targets_nonscored", "nonscored_train_targets.csv"),
        ("train_targets_scored", "y_train.csv"),
        ("train_features", "train.csv"),
    ],
)
def test_other_names_of_known_files_are_told(data, caplog, stem, name):
    (data / name).touch()
    with caplog.at_level("WARNING", logger="absl"):
        tables.load(data)
    (line,) = caplog.messages
    assert line.startswith(f"{data / name}: not read; {stem} is read from .csv")


@pytest.mark.parametrize("name", ["test", "new", "test_features_2020"])
def test_known_files_in_a_folder_within_are_told(data, caplog, name):
    (data / name).mkdir()
    (data / "test_features.csv").rename(data / name / "test_features.csv")
    (data / "sample_submission.csv").unlink()
    with caplog.at_level("WARNING", logger="absl"):
        assert tables.load(data).test is None
    (line,) = caplog.messages
    assert line.startswith(f"{data / name}: not read, though it holds test_features.csv: files are")


def test_a_second_file_of_a_known_stem_is_told(data, caplog):
    (data / "test_features.csv.7z").write_bytes(b"")
    with caplog.at_level("WARNING", logger="absl"):
        assert len(tables.load(data).test) == 5
    assert "test_features.csv.7z: not read" in caplog.text


@pytest.mark.parametrize(
    "name",
    [
        "notes.csv", "README.md", "test_features.png", "train_features.md",
        ".test_features.csv.swp",
        "plates.csv", "test.py", "latest.csv", "attest_data.csv", "predictions.csv",
        "submission.csv",
    ],
)  # fmt: skip
def test_other_files_are_nobodys_business(data, caplog, name):
    (data / name).touch()
    with caplog.at_level("WARNING", logger="absl"):
        tables.load(data)
    assert caplog.records == []


def test_another_known_file_in_an_archive_is_told(data, caplog):
    with zipfile.ZipFile(data / "test_features.csv.zip", "w") as archive:
        archive.write(data / "test_features.csv", "data/train_features.csv")
    (data / "test_features.csv").unlink()
    with caplog.at_level("WARNING", logger="absl"):
        tables.load(data)
    (line,) = caplog.messages
    assert "test_features.csv.zip: holds data/train_features.csv, which is read as test_fe" in line


def test_a_submission_without_test_features_is_told(data, caplog):
    (data / "test_features.csv").unlink()
    with caplog.at_level("WARNING", logger="absl"):
        tables.load(data)
    assert "sample_submission.csv: not read, there is no test_features" in caplog.text


@pytest.mark.parametrize("target", ["nowhere.csv", "test_features.csv"], ids=["dangling", "loop"])
@pytest.mark.parametrize("stem", ["test_features", "train_features", "train_drug"])
def test_links_that_lead_nowhere(data, stem, target):
    link = data / f"{stem}.csv"
    link.unlink()
    link.symlink_to(link if target == "test_features.csv" else data / target)
    with pytest.raises(UserError, match=f"{stem}.csv: expected a file, found a symbolic link that"):
        tables.load(data)
    with pytest.raises(UserError, match="a symbolic link that leads nowhere; mend or remove it"):
        next(tables.stream(link, levels=ORIGINAL_LEVELS))


def test_links_to_a_file_are_read(data):
    (data / "test_features.csv").rename(data.parent / "elsewhere.csv")
    (data / "test_features.csv").symlink_to(data.parent / "elsewhere.csv")
    assert len(tables.load(data).test) == 5


def test_what_is_no_file_is_not_waited_for(data):
    (data / "test_features.csv").unlink()
    os.mkfifo(data / "test_features.csv")
    with pytest.raises(
        UserError, match="test_features.csv: expected a file, found a pipe or a dev"
    ):
        tables.load(data)
