"""Side tables: what rows are joined by, and which files of texts are read."""

import bz2
import lzma
import zipfile

import pandas as pd
import pytest
from prepare.test_formats import load
from test_formats import zstd

from moa_jax.errors import UserError
from moa_jax.prepare.__main__ import main

ROWS = 12
MOA = ["x", "y", "x|y"]


def wells(drug=lambda row: f"d{row % 6}"):
    return pd.DataFrame(
        {
            "plate": [f"P{row // 6}" for row in range(ROWS)],
            "place": [f"A{row % 6}" for row in range(ROWS)],
            "f_1": [row % 5 for row in range(ROWS)],
            "drug": [drug(row) for row in range(ROWS)],
        }
    )


def prepare(path, table, *files):
    table.to_csv(path / "wells.csv", index=False)
    paths = ",".join(str(path / name) for name in files)
    flags = ["--id=plate,place", "--features=f_", "--labels=moa", "--compound=drug"]
    flags += ["--min_compounds=1", f"--metadata={paths}"]
    main([str(path / "wells.csv"), f"--out={path / 'data'}", *flags])
    return load(path / "data")


def test_a_map_of_plates_is_joined_by_plate_and_well(tmp_path):
    table = wells()
    plates = table[["plate", "place"]].assign(moa=[MOA[row % 3] for row in range(ROWS)])
    elsewhere = pd.DataFrame(
        {"plate": ["Q"] * 2, "place": "A1", "moa": ["x", "y"], "drug": ["d", "e"]}
    )
    plates = pd.concat([plates, elsewhere])
    plates.iloc[::-1].to_csv(tmp_path / "map.csv", index=False)
    found = prepare(tmp_path, table, "map.csv")
    assert found.targets.values.tolist() == [[1, 0], [0, 1], [1, 1]] * 4


def test_plate_maps_of_profiles_need_no_other_names(tmp_path):
    """As pycytominer joins them: a list of plates and their maps, and maps of wells."""
    profiles = wells().rename(columns={"plate": "Metadata_Plate", "place": "Metadata_Well"})
    profiles = profiles.rename(columns={"f_1": "Cells_A"}).drop(columns="drug")
    profiles.to_csv(tmp_path / "profiles.csv", index=False)
    plates = pd.DataFrame({"Assay_Plate_Barcode": ["P1", "P0"], "Plate_Map_Name": ["M1", "M0"]})
    plates.to_csv(tmp_path / "barcode_platemap.csv", index=False)
    maps = pd.DataFrame({
        "plate_map_name": ["M0"] * 6 + ["M1"] * 6,
        "well_position": [f"A{row % 6}" for row in range(ROWS)],
        "broad_sample": ["DMSO" if row % 6 == 5 else f"d{row}" for row in range(ROWS)],
        "moa": [None if row % 6 == 5 else MOA[row % 2] for row in range(ROWS)],
    })  # fmt: skip
    maps[::-1].to_csv(tmp_path / "map.txt", sep="\t", index=False)
    files = f"{tmp_path / 'barcode_platemap.csv'},{tmp_path / 'map.txt'}"
    flags = ["--preset=pycytominer", f"--metadata={files}"]
    main([str(tmp_path / "profiles.csv"), f"--out={tmp_path / 'data'}", *flags])
    found = load(tmp_path / "data")
    assert found.is_control.tolist() == [row % 6 == 5 for row in range(ROWS)]
    treated = [row for row in range(ROWS) if row % 6 != 5]
    assert found.drug_id[~found.is_control].tolist() == [f"d{row}" for row in treated]
    named = [MOA[row % 2] for row in treated]
    values = found.targets.values[~found.is_control]
    assert [found.targets.names[one.argmax()] for one in values] == named


def test_ids_of_wells_come_before_names_that_differ_by_case(tmp_path):
    table = wells().assign(id=[f"w{row}" for row in range(ROWS)])
    about = pd.DataFrame({"Place": table["place"].to_numpy()[::-1], "sig_id": table["id"]})
    about.assign(moa=[MOA[row % 3] for row in range(ROWS)]).to_csv(tmp_path / "a.csv", index=False)
    found = prepare(tmp_path, table, "a.csv")
    assert found.targets.values.tolist() == [[1, 0], [0, 1], [1, 1]] * 4


@pytest.mark.parametrize("names", ["named", "bare"])
def test_ids_of_wells_may_be_called_otherwise_in_a_file(tmp_path, names):
    """In a column of any name, or in the first one of both, which has none."""
    table = wells().set_index(pd.Index([f"w{row}" for row in range(ROWS)]))
    about = table[["drug"]].assign(number=range(ROWS), moa=[MOA[row % 2] for row in range(ROWS)])
    if names == "named":
        about.index.name = "Sample"
        about = about.reset_index()[["number", "Sample", "drug", "moa"]]
    about[::-1].to_csv(tmp_path / "about.csv", index=names == "bare")
    table[["f_1"]].to_csv(tmp_path / "wells.csv")
    flags = ["--features=f_", "--labels=moa", "--compound=drug", "--min_compounds=1"]
    flags += [f"--out={tmp_path / 'data'}", f"--metadata={tmp_path / 'about.csv'}"]
    main([str(tmp_path / "wells.csv"), *flags])
    found = load(tmp_path / "data")
    assert found.ids.tolist() == list(table.index)
    assert found.drug_id.tolist() == table["drug"].tolist()
    assert found.targets.values.tolist() == [[1, 0], [0, 1]] * 6


def test_names_of_rows_of_another_kind_do_not_hide_ids(tmp_path):
    """Both have a first column without a name; in the file it names the lines of the file."""
    table = wells().set_index(pd.Index([f"w{row}" for row in range(ROWS)]))
    about = pd.DataFrame({"Sample": table.index, "moa": [MOA[row % 2] for row in range(ROWS)]})
    about.index = [f"line{row}" for row in range(ROWS)]
    about.to_csv(tmp_path / "about.csv")
    table[["f_1"]].to_csv(tmp_path / "wells.csv")
    flags = ["--features=f_", "--labels=moa", f"--metadata={tmp_path / 'about.csv'}"]
    main([str(tmp_path / "wells.csv"), f"--out={tmp_path / 'data'}", *flags])
    assert load(tmp_path / "data").targets.values.tolist() == [[1, 0], [0, 1]] * 6


def test_ids_that_are_numbers_are_not_looked_for_among_numbers(tmp_path):
    """A dose of 10 is not the tenth well."""
    table = wells().drop(columns=["drug"]).assign(id=range(1, ROWS + 1))
    about = pd.DataFrame({"dose": [1, 10], "moa": ["x", "y"]})
    about.to_csv(tmp_path / "about.csv", index=False)
    table.to_csv(tmp_path / "wells.csv", index=False)
    flags = ["--features=f_", "--labels=moa", f"--metadata={tmp_path / 'about.csv'}"]
    with pytest.raises(UserError, match=r"expected a column that wells.csv has too, found dose"):
        main([str(tmp_path / "wells.csv"), f"--out={tmp_path / 'data'}", *flags])


def test_maps_of_several_plates_that_nothing_tells_apart_are_told(tmp_path, caplog):
    maps = wells()[["place"]].assign(map=["M0"] * 6 + ["M1"] * 6, moa=[MOA[0]] * 6 + [MOA[1]] * 6)
    maps.to_csv(tmp_path / "map.csv", index=False)
    prepare(tmp_path, wells(), "map.csv")
    assert "A0 of place has 2 rows, whose texts are joined, such as M0 and M1 in map" in caplog.text
    caplog.clear()
    (tmp_path / "data").rename(tmp_path / "first")
    drugs = wells()[["drug"]][:6].assign(moa=MOA * 2)  # compounds may have several mechanisms
    pd.concat([drugs, drugs[::-1].assign(moa="z")]).to_csv(tmp_path / "drugs.csv", index=False)
    prepare(tmp_path, wells(), "drugs.csv")
    assert "whose texts are joined" not in caplog.text


@pytest.mark.parametrize("is_named", [True, False])
def test_names_of_rows_of_another_kind_join_nothing(tmp_path, is_named):
    """Nor are they ids of the wells that have a compound."""
    table = wells(lambda row: f"d{row}")
    drugs = table[["drug"]].assign(moa=MOA * 4).set_index(pd.Index([*"abcdefghijkl"]))
    drugs.to_csv(tmp_path / "drugs.csv")
    if is_named:
        table.index = [f"w{row}" for row in range(ROWS)]
    table.to_csv(tmp_path / "wells.csv")
    flags = ["--features=f_", "--labels=moa", "--min_compounds=1", f"--out={tmp_path / 'data'}"]
    main([str(tmp_path / "wells.csv"), *flags, f"--metadata={tmp_path / 'drugs.csv'}"])
    found = load(tmp_path / "data")
    assert found.targets.values.tolist() == [[1, 0], [0, 1], [1, 1]] * 4
    assert found.ids[0] == ("w0" if is_named else "row_1")


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_numbers_of_rows_join_nothing(tmp_path, suffix):
    """As pandas writes them before the rows of both, in which these have other orders."""
    drugs = wells()[["drug"]][:6].assign(moa=MOA * 2)[::-1].reset_index(drop=True)
    drugs.index += 1
    getattr(drugs, "to_csv" if suffix == ".csv" else "to_parquet")(tmp_path / f"drugs{suffix}")
    wells().to_csv(tmp_path / "wells.csv")
    flags = ["--id=plate,place", "--features=f_", "--labels=moa", "--min_compounds=1"]
    flags += [f"--out={tmp_path / 'data'}", f"--metadata={tmp_path / f'drugs{suffix}'}"]
    main([str(tmp_path / "wells.csv"), *flags])
    found = load(tmp_path / "data")
    assert found.targets.values.tolist() == [[1, 0], [0, 1], [1, 1]] * 4


def test_comments_stand_above_a_header(tmp_path):
    drugs = wells()[["drug"]][:6].assign(moa=MOA * 2)
    text = "!Version: 3/24/2020\n!Source, any\n# of two kinds\n\n" + drugs.to_csv(index=False)
    (tmp_path / "a.csv").write_text(text, "utf-8-sig")
    assert (
        prepare(tmp_path, wells(), "a.csv").targets.values.tolist() == [[1, 0], [0, 1], [1, 1]] * 4
    )


@pytest.mark.parametrize(
    "name",
    ["tabs", "semicolons", "quotes", "mark", "zip", "lists", "numbers", "bz2", "xz", "zstd"],
)
def test_files_of_texts(tmp_path, name):
    table = wells(lambda row: f"{row % 6:02d}" if name != "numbers" else row % 6)
    drugs = table[["drug"]][:6].assign(moa=MOA * 2)
    path = tmp_path / ("a.csv.zip" if name == "zip" else "a.csv")
    if name == "lists":
        drugs["moa"] = [str(moa.split("|")) for moa in drugs["moa"]]
    if name == "numbers":
        path = tmp_path / "a.parquet"
        drugs.assign(drug=drugs["drug"].astype(float)).to_parquet(path)
    elif name == "quotes":  # pandas' numbering, a delimiter and a line break within quotes
        drugs.assign(**{"a\tb": "one\ntwo"}).to_csv(path)
    else:
        delimiter = {"tabs": "\t", "semicolons": ";"}.get(name, ",")
        encoding = "utf-8-sig" if name == "mark" else "utf-8"
        drugs.to_csv(path, index=False, sep=delimiter, encoding=encoding)
    if pack := {"bz2": bz2.compress, "xz": lzma.compress, "zstd": zstd}.get(name):
        path.write_bytes(pack(path.read_bytes()))
    found = prepare(tmp_path, table, path.name)
    assert found.targets.values.tolist() == [[1, 0], [0, 1], [1, 1]] * 4


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"drug,moa,moa\nd0,x,y\n", "a.csv: column moa stands more than once"),
        ("drug,moa\nd0,x\n".encode("utf-16"), "a.csv: .*found UTF-16; save it as UTF-8"),
        ("drug,moa\nd0,caf\u00e9\n".encode("latin-1"), "column moa has other bytes, .* Latin-1"),
        (b"7z\xbc\xaf\x27\x1c", "a.csv: expected a table of texts, found 7z; convert it to CSV"),
        (b"drug,moa\nD0,x\n", "such as d0 in column drug, found none of them, but D0"),
        (b"drug,moa\n", "such as d0 in column drug, found none of them"),
        (b"", "a.csv: expected a table, found an empty file"),
        (b"# drug\n! moa\n", "a.csv: expected a table, found .* comments alone"),
        (b"Unnamed: 0\n1\n", "a.csv: expected names of columns, found none"),
        (b"drug,moa\nd0,x,y\n", "Expected 2 columns, got 3"),
        (b"name,moa\nd0,x\n", "expected a column that wells.csv has too, found name, moa"),
    ],
)
def test_what_cannot_be_joined(tmp_path, content, message):
    (tmp_path / "a.csv").write_bytes(content)
    with pytest.raises(UserError, match=message) as error:
        prepare(tmp_path, wells(), "a.csv")
    assert "\n" not in str(error.value) and not (tmp_path / "data").exists()


def test_cells_with_line_breaks_are_written_in_one_line(tmp_path):
    """A short file may have them within quotes, and a data folder may not."""
    names = wells()[["drug"]][:6].assign(moa=MOA * 2, named=[f"acid\n\t{row}" for row in range(6)])
    names.to_csv(tmp_path / "names, of us.csv", index=False)
    wells().to_csv(tmp_path / "wells.csv", index=False)
    flags = ["--id=plate,place", "--features=f_", "--labels=moa", "--min_compounds=1"]
    main([str(tmp_path / "wells.csv"), f"--out={tmp_path / 'data'}", "--compound=named", *flags,
          f"--metadata={tmp_path / 'names, of us.csv'}"])  # fmt: skip
    assert load(tmp_path / "data").drug_id[:2].tolist() == ["acid 0", "acid 1"]


def test_a_column_in_which_nothing_stands_is_filled(tmp_path):
    drugs = wells()[["drug"]][:6].assign(moa=MOA * 2)
    drugs[["moa", "drug"]].to_csv(tmp_path / "a.csv", index=False)
    found = prepare(tmp_path, wells().assign(moa=None), "a.csv")
    assert found.targets.values.tolist() == [[1, 0], [0, 1], [1, 1]] * 4


def test_a_column_of_lists_that_both_have(tmp_path):
    drugs = wells()[["drug"]][:6].assign(moa="of the file")
    drugs.to_csv(tmp_path / "a.csv", index=False)
    wells().assign(moa=[["x"], ["y"]] * 6).to_parquet(tmp_path / "wells.parquet")
    main([str(tmp_path / "wells.parquet"), f"--out={tmp_path / 'data'}", "--id=plate,place",
          "--compound=drug", "--features=f_", "--labels=moa", "--min_compounds=1",
          f"--metadata={tmp_path / 'a.csv'}"])  # fmt: skip
    assert load(tmp_path / "data").targets.names == ("x", "y")


def test_several_numbers_of_a_key_are_told(tmp_path, caplog):
    drugs = wells()[["drug"]][:6].assign(moa=MOA * 2, dose=1, order=range(6))
    pd.concat([drugs, drugs[:2].assign(dose=2)]).to_csv(tmp_path / "a.csv", index=False)
    prepare(tmp_path, wells(), "a.csv")
    assert "column dose: 4 rows have several numbers, which count as one text, such as 1|2" in (
        caplog.text
    )
    assert caplog.text.count("have several numbers") == 1


def test_a_file_without_rows(tmp_path):
    wells()[["drug"]][:0].assign(moa="").to_parquet(tmp_path / "a.parquet")
    with pytest.raises(UserError, match="a.parquet: expected rows, found none"):
        prepare(tmp_path, wells(), "a.parquet")


def test_an_archive_of_several_files(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.csv.zip", "w") as archive:
        archive.writestr("a.csv", "drug,moa\n")
        archive.writestr("b.csv", "drug,moa\n")
    with pytest.raises(UserError, match="expected one file within, found 2: a.csv, b.csv"):
        prepare(tmp_path, wells(), "a.csv.zip")


def test_keys_that_may_be_the_same_are_told(tmp_path, caplog):
    drugs = wells()[["drug"]][:6].assign(moa=MOA * 2)
    drugs.loc[0, "drug"] = "00D0"
    drugs.to_csv(tmp_path / "a.csv", index=False)
    prepare(tmp_path, wells(), "a.csv")
    assert "nothing is found for 2 rows; d0 of drug may be 00D0 there" in caplog.text


def test_a_map_that_writes_some_wells_with_a_zero(tmp_path):
    """They are the same wells, unless A1 and A01 are two."""
    plates = wells()[["plate", "place"]].assign(moa=[MOA[row % 3] for row in range(ROWS)])
    plates.loc[1, "place"] = "A01"
    plates.loc[7, "place"] = "A01"
    plates.to_csv(tmp_path / "map.csv", index=False)
    found = prepare(tmp_path, wells(), "map.csv")
    assert found.targets.values.tolist() == [[1, 0], [0, 1], [1, 1]] * 4
    (tmp_path / "data").rename(tmp_path / "first")
    plates.loc[2, "place"] = "A1"
    plates.to_csv(tmp_path / "map.csv", index=False)
    found = prepare(tmp_path, wells(), "map.csv")
    assert found.test.ids.tolist() == ["P0_A2", "P1_A1"]
    assert found.targets.values[found.ids.tolist().index("P0_A1")].tolist() == [1, 1]
