"""Formats: one screen, from a file of each to a folder that a run reads."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scipy.sparse
from prepare import screens

from moa_jax.config import DataConfig, RunConfig
from moa_jax.data import prepared, tables
from moa_jax.data.dataset import Levels
from moa_jax.data.names import Prefixes
from moa_jax.errors import UserError
from moa_jax.prepare import sources
from moa_jax.prepare.__main__ import main


def load(folder):
    """The dataset that a run without any field of the data's reads."""
    config = prepared.applied(RunConfig({}, data=DataConfig(folder=str(folder))), {})
    return tables.load(folder, Levels.of(config.data), Prefixes.of(config.data))


def check(folder, names, values, ids, places=None):
    """Compares what a run reads with the screen, whose genes at `places` were taken."""
    about, _ = screens.screen()
    found = load(folder)
    to_predict = (about["moa"].isna() & (about["drug"] != "DMSO")).to_numpy()
    values = values if places is None else values[:, places]
    assert found.genes == tuple(names)
    np.testing.assert_array_equal(found.ids, np.array(ids)[~to_predict])
    np.testing.assert_array_equal(found.test.ids, np.array(ids)[to_predict])
    np.testing.assert_array_equal(found.gene_values, values[~to_predict])
    np.testing.assert_array_equal(found.test.gene_values, values[to_predict])
    assert found.targets.names == ("agonist", "channel blocker", "kinase inhibitor")
    expected = [[label in (moa or "").split("|") for label in found.targets.names]
                for moa in about["moa"][~to_predict]]  # fmt: skip
    np.testing.assert_array_equal(found.targets.values, expected)
    treated = (about["drug"] != "DMSO").to_numpy()[~to_predict]
    np.testing.assert_array_equal(found.is_control, ~treated)
    np.testing.assert_array_equal(found.drug_id[treated], about["drug"][~to_predict][treated])
    np.testing.assert_array_equal(found.cp_time, about["hours"][~to_predict])
    doses = about["dose"][~to_predict].astype(float).fillna(0.37).map("{:g}".format)
    assert [f"{float(dose):g}" for dose in found.cp_dose] == list(doses)
    return found


@pytest.mark.parametrize("name", ["wells.csv", "wells.csv.gz", "wells.tsv.bz2", "wells.parquet"])
def test_cell_painting(tmp_path, name):
    table = screens.cell_painting(tmp_path / name)
    main([str(tmp_path / name), f"--out={tmp_path / 'data'}", "--preset=pycytominer"])
    _, values = screens.screen()
    ids = table["Metadata_Plate"] + "_" + table["Metadata_Well"]
    found = check(tmp_path / "data", screens.FEATURES, values, list(ids))
    assert found.cells == ("Metadata_Object_Count",)
    described = prepared.read(tmp_path / "data")
    assert list(described["features"]) == ["Cells", "Cytoplasm", "Nuclei", "cell count"]
    plates = pd.read_csv(tmp_path / "data" / "plate.csv")
    groups = tables.read_groups(tmp_path / "data" / "plate.csv", found)
    assert dict(zip(plates["sig_id"], plates["group"], strict=True)).items() >= {
        (i, g) for i, g in zip(found.ids, groups, strict=True) if g
    }


def again(table, folder):
    """Compares the table's rows, as new ones of the raw table, with those of the folder."""
    main([str(table), f"--like={folder}", f"--out={folder.parent / 'new.parquet'}"])
    new = pd.read_parquet(folder.parent / "new.parquet").set_index("sig_id")
    stems = ("train_features", "test_features")
    known = pd.concat(pd.read_parquet(folder / f"{stem}.parquet") for stem in stems)
    drugs = [file for stem in ("train", "test") if (file := folder / f"{stem}_drug.csv").exists()]
    if drugs:
        named = pd.concat(map(pd.read_csv, drugs)).set_index("sig_id")["drug_id"]
        assert new.loc[named.index, "drug_id"].tolist() == named.astype(str).tolist()
        del new["drug_id"]
    pd.testing.assert_frame_equal(new.loc[known["sig_id"]], known.set_index("sig_id"))


FORMATS = {
    "a.gct": screens.gct,
    "a.gctx": screens.gctx,
    "a.h5ad": screens.h5ad,
    "csr.h5ad": lambda path: screens.h5ad(path, "csr"),
    "csc.h5ad": lambda path: screens.h5ad(path, "csc"),
}


@pytest.mark.parametrize("name", FORMATS)
def test_a_matrix(tmp_path, name):
    pytest.importorskip("anndata" if name.endswith("h5ad") else "h5py")
    FORMATS[name](tmp_path / name)
    main([str(tmp_path / name), f"--out={tmp_path / 'data'}", "--preset=cmap"])
    about, values = screens.connectivity_map()
    # The text has every digit, the others have float32.
    values = values if name == "a.gct" else values.astype(np.float32)
    landmarks = [g for g in range(screens.GENES) if name.endswith("h5ad") or screens.LANDMARKS[g]]
    names = [screens.SYMBOLS[gene] for gene in landmarks]
    check(tmp_path / "data", names, values, list(about.index), landmarks)
    again(tmp_path / name, tmp_path / "data")
    group = "genes" if name.endswith("h5ad") else "landmark genes"
    assert prepared.read(tmp_path / "data")["features"] == {group: names}


@pytest.fixture(scope="module")
def layered(tmp_path_factory):
    pytest.importorskip("anndata")
    path = tmp_path_factory.mktemp("layers") / "a.h5ad"
    screens.h5ad(path, change=screens.layered)
    return path


@pytest.mark.parametrize("layer", screens.LAYERS)
def test_a_matrix_beside_x(tmp_path, layered, layer):
    names, factor = screens.LAYERS[layer]
    main([str(layered), f"--out={tmp_path / 'data'}", "--preset=cmap", f"--layer={layer}"])
    about, values = screens.connectivity_map()
    check(tmp_path / "data", names, values.astype(np.float32) * factor, list(about.index))
    again(layered, tmp_path / "data")


def test_values_of_one_cell_are_added(tmp_path):
    """As a sparse matrix may have them, and scipy reads it."""
    pytest.importorskip("anndata")
    h5py = pytest.importorskip("h5py")
    FORMATS["csr.h5ad"](tmp_path / "a.h5ad")
    with h5py.File(tmp_path / "a.h5ad", "a") as opened:
        data, columns, ends = (opened[f"X/{name}"] for name in ("data", "indices", "indptr"))
        stored = {
            "data": np.concatenate([data[:1] / 2, data[:1] / 2, data[1:]]),
            "indices": np.concatenate([columns[:1], columns[:]]),
            "indptr": ends[:] + (np.arange(len(ends)) > 0),
        }
        for name, values in stored.items():
            del opened[f"X/{name}"]
            opened[f"X/{name}"] = values
    _, values = screens.screen()
    found = np.concatenate([*sources.read(tmp_path / "a.h5ad").values(screens.SYMBOLS)])
    np.testing.assert_array_equal(found, values.astype(np.float32))


def test_a_layer_that_is_not_there(tmp_path, layered):
    out = f"--out={tmp_path / 'data'}"
    with pytest.raises(UserError, match="expected scaled, X_pca, named, sparse, raw, found 'up'"):
        main([str(layered), out, "--preset=cmap", "--layer=up"])
    (tmp_path / "a.csv").write_text("id,f_1,moa\na,1,x\n")
    with pytest.raises(UserError, match=r"--layer=up: expected an \.h5ad file, which has layers"):
        main([str(tmp_path / "a.csv"), out, "--layer=up"])


def test_a_matrix_with_files_about_it(tmp_path):
    pytest.importorskip("h5py")
    screens.gctx(tmp_path / "a.gctx", described=False)
    about, values = screens.connectivity_map()
    wells = about.drop(columns="moa").rename_axis("sig_id").reset_index()
    wells[::-1].to_csv(tmp_path / "siginfo.txt", sep="\t", index=False)
    moas = about[["pert_id", "moa"]].drop_duplicates()
    moas = moas.assign(moa=moas["moa"].str.split("|")).explode("moa")  # a mechanism in each row
    moas.to_csv(tmp_path / "compoundinfo.txt", sep="\t", index=False)
    pd.DataFrame(
        {"gene_id": screens.IDS, "gene_symbol": screens.SYMBOLS,
         "feature_space": np.where(screens.LANDMARKS, "landmark", "inferred")}
    )[::-1].to_csv(tmp_path / "geneinfo.txt", sep="\t", index=False)  # fmt: skip
    files = f"{tmp_path / 'siginfo.txt'},{tmp_path / 'compoundinfo.txt'}"
    main([str(tmp_path / "a.gctx"), f"--out={tmp_path / 'data'}", "--preset=cmap",
          f"--metadata={files}", f"--genes={tmp_path / 'geneinfo.txt'}"])  # fmt: skip
    landmarks = [g for g in range(screens.GENES) if screens.LANDMARKS[g]]
    again(tmp_path / "a.gctx", tmp_path / "data")
    check(tmp_path / "data", [screens.SYMBOLS[g] for g in landmarks], values.astype(np.float32),
          list(about.index), landmarks)  # fmt: skip


@pytest.mark.parametrize("name", ["a.gct", "a.gctx"])
def test_cell_counts_alone(tmp_path, name):
    """Where all genes are constant, what is left of the features lies beside the matrix."""
    pytest.importorskip("h5py")
    lines = ["#1.3", "2\t4\t0\t3", "id\ta\tb\tc\td", "moa\tx\tx\ty\ty", "drug\tp\tq\tr\ts",
             "count\t5\t6\t7\t8", "g1" + "\t1" * 4, "g2" + "\t2" * 4]  # fmt: skip
    if name == "a.gct":
        (tmp_path / name).write_text("\n".join(lines))
    else:
        import h5py

        with h5py.File(tmp_path / name, "w") as file:
            file["0/DATA/0/matrix"] = np.ones((4, 2), np.float32)
            file["0/META/ROW/id"] = np.array(["g1", "g2"], "S")
            for line in lines[2:6]:
                about, *cells = line.split("\t")
                file[f"0/META/COL/{about}"] = np.array(cells, "S")
    main([str(tmp_path / name), f"--out={tmp_path / 'data'}", "--labels=moa", "--compound=drug",
          "--cell_count=count"])  # fmt: skip
    found = load(tmp_path / "data")
    assert (found.genes, found.cells) == ((), ("count",))
    assert found.features.tolist() == [[5], [6], [7], [8]]


@pytest.mark.parametrize("told", ["1.0", "True"])
def test_landmarks_are_told_by_any_type(tmp_path, told):
    pytest.importorskip("h5py")
    screens.gctx(tmp_path / "a.gctx", described=False)
    table = pd.DataFrame({"pr_gene_id": screens.IDS, "pr_is_lm": [told, *["0"] * 4, told]})
    table.to_csv(tmp_path / "genes.csv", index=False)
    about, _ = screens.connectivity_map()
    about.to_csv(tmp_path / "wells.csv", index_label="sig_id")
    main([str(tmp_path / "a.gctx"), f"--out={tmp_path / 'data'}", "--preset=cmap",
          f"--genes={tmp_path / 'genes.csv'}", f"--metadata={tmp_path / 'wells.csv'}"])  # fmt: skip
    ids = [screens.IDS[0], screens.IDS[-1]]
    assert prepared.read(tmp_path / "data")["features"] == {"landmark genes": ids}


def test_gct_of_version_1_2(tmp_path):
    lines = ["#1.2", "2\t3", "NAME\tDescription\tone\ttwo\tthree", "g1\tna\t1\t2\t3",
             "g2\tna\t4\tNA\t6"]  # fmt: skip
    (tmp_path / "a.gct").write_text("\n".join(lines))
    (tmp_path / "wells.txt").write_text("id\tdrug\tclass\none\ta\tx\ntwo\tb\tx\nthree\tc\ty\n")
    main([str(tmp_path / "a.gct"), f"--out={tmp_path / 'data'}", "--labels=class",
          f"--metadata={tmp_path / 'wells.txt'}", "--compound=drug", "--min_compounds=1",
          "--features=g"])  # fmt: skip
    found = load(tmp_path / "data")
    assert found.targets.names == ("x", "y")
    # The missing number is in a third of the rows, so that its column is left out.
    assert found.genes == ("g1",)
    np.testing.assert_array_equal(found.gene_values, [[1], [2], [3]])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.gct", "#1.4\n", "first line is #1.2 or #1.3, found '#1.4'"),
        ("a.gct", "#1.3\n2\t3\n", "expected 4 numbers in line 2"),
        ("a.gct", "#1.2\n2\t1\nN\tD\ta\ng\tx\t1\n", "expected 2 rows of genes, found 1"),
        ("a.gct", "#1.2\n1\t2\nN\tD\ta\ng\tx\t1\n", "the header: expected 4 cells"),
        ("a.gct", "#1.2\n1\t2\nN\tD\ta\ta\ng\tx\t1\t2\n", "column a stands more than once"),
        ("a.gct", "#1.2\n1\t2\nN\tD\ta\tb\ng\tx\t1\t2 uM\n", "expected a number, found '2 uM'"),
        (
            "a.gct",
            "#1.2\n1\t2\nN\tD\ta\tb\ng\n",
            "gene 1: expected 4 cells delimited",
        ),
        (
            "a.gct",
            "#1.3\n1\t2\t0\t3\nid\ta\tb\nx\tp\tq\nx\tp\tq\nx\tr\ts\ng\t1\t2\n",
            "row 3 about the columns: 'x' stands more than once",
        ),
        ("a.gct", "BZh91AY&SY", "a.gct: bzip2 file named .gct; unpack or convert it"),
        ("a.gctx", "BZh91AY&SY", "a.gctx: bzip2 file named .gctx; unpack or convert it"),
        ("a.gctx", "no HDF5", "cannot be read as GCTX"),
        ("a.h5ad", "no HDF5", "cannot be read as AnnData"),
        ("a.xlsx", "x", "expected a name that ends in .gct, .gct.gz, .gctx, .h5ad, .csv"),
        ("a.csv", "id,f_1,moa\n", "found only a header"),
        ("a.csv", "id|f_1|moa\n1|2|3\n", "expected columns delimited by tabs or commas or"),
        ("a.csv", "id,f_1,moa\na,x,1\n", "column f_1, row 1: expected a number, found 'x'"),
        ("a.csv", "id,f_1,moa\na,1,x\na,2,y\n", "a stands more than once"),
        ("a.csv", "id,f_1,moa\na,1,x\n,2,y\n", "column id, row 2: expected an id, found none"),
        (None, "", "expected a file, found none"),
    ],
)
def test_what_is_no_table(tmp_path, name, content, message):
    pytest.importorskip("anndata")
    path = tmp_path / (name or "none.csv")
    if name:
        path.write_text(content)
    flags = ["--id=id", "--features=f_", "--labels=moa", "--min_compounds=1"]
    flags = ["--labels=id", "--features=g"] if name == "a.gct" else flags
    with pytest.raises(UserError, match="(?s)" + message.replace("(", "[(]")) as error:
        main([str(path), f"--out={tmp_path / 'data'}", *flags])
    assert "\n" not in str(error.value)
    assert {p.name for p in tmp_path.iterdir()} <= {name}


def test_anndata_as_it_was_written_before_0_7(tmp_path):
    """Tables are arrays of records, categories stand apart, a sparse matrix tells its own kind."""
    pytest.importorskip("anndata")
    h5py = pytest.importorskip("h5py")
    about, values = screens.connectivity_map()
    with h5py.File(tmp_path / "old.h5ad", "w") as file:
        columns = {"index": np.array(list(about.index), "S")}
        for name in ("pert_id", "pert_type", "moa"):
            categories = sorted({*about[name]})
            columns[name] = np.array([categories.index(one) for one in about[name]], "i1")
            file[f"uns/{name}_categories"] = np.array(categories, h5py.string_dtype())
        kinds = [(name, cells.dtype) for name, cells in columns.items()]
        file["obs"] = np.array([*zip(*columns.values(), strict=True)], kinds)
        file["var"] = np.array([(one,) for one in screens.SYMBOLS], [("index", "S8")])
        matrix = scipy.sparse.csr_matrix(values)
        group = file.create_group("X")
        group.attrs["h5sparse_format"], group.attrs["h5sparse_shape"] = "csr", matrix.shape
        for part in ("data", "indices", "indptr"):
            group[part] = getattr(matrix, part)
        file["layers/twice"] = 2 * values
        file["raw.X"], file["obsm"] = 3 * values, np.array([*zip(4 * values)], [("X_pca", "f8", 6)])
        file["raw.var"] = np.array([(f"R{one}",) for one in screens.IDS], [("index", "S8")])
    found = sources.read(tmp_path / "old.h5ad")
    assert found.features == tuple(screens.SYMBOLS)
    table = found.wells(["pert_id", "moa"])
    assert [str(one) for one in table.column("pert_id")] == about["pert_id"].tolist()
    (read,) = found.values(screens.SYMBOLS[::-1])
    np.testing.assert_allclose(read, values[:, ::-1], rtol=1e-6)
    for layer, name, factor in (
        ("twice", screens.SYMBOLS[0], 2), ("raw", f"R{screens.IDS[0]}", 3), ("X_pca", "X_pca_1", 4),
    ):  # fmt: skip
        (read,) = sources.read(tmp_path / "old.h5ad", layer).values([name])
        np.testing.assert_allclose(read, factor * values[:, :1], rtol=1e-6)


@pytest.mark.parametrize("kind", ["list", "large_list", "fixed"])
def test_lists_of_numbers_are_columns(tmp_path, kind):
    """As embeddings are written to parquet, of one length, with rows that have none."""
    about, values = screens.screen()
    rows = values.astype(np.float32).tolist()
    number = pa.float32()
    kinds = {"list": pa.list_(number), "large_list": pa.large_list(number)}
    lists = pa.array([None, *rows[1:]], kinds.get(kind, pa.list_(number, values.shape[1])))
    table = pa.table({"moa": about["moa"], "e": lists, "row": range(len(about))})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=25)
    found = sources.read(tmp_path / "a.parquet")
    names = [f"e_{number}" for number in range(1, values.shape[1] + 1)]
    assert found.columns == ("moa", *names, "row")
    read = np.concatenate([*found.values(names[::-1])])
    np.testing.assert_array_equal(read[1:], values.astype(np.float32)[1:, ::-1])
    assert np.isnan(read[0]).all()
    if kind == "list":
        # More rows than are read together.
        lists = pa.array([*rows[:1] * 8999, rows[-1][:2]], kinds[kind])
        pq.write_table(pa.table({"e": lists, "row": range(9000)}), tmp_path / "b.parquet")
        with pytest.raises(UserError, match=r"column e, row 9000: expected 6 numbers, found 2: \["):
            [*sources.read(tmp_path / "b.parquet").values(names)]


@pytest.mark.parametrize("labels", [[[3], [3, 7]], [[3], [7]]])
def test_lists_of_whole_numbers_may_be_labels(tmp_path, labels):
    lists = pa.array([*labels * 10, None], pa.list_(pa.int64()))
    wells = {"well": [f"w{row}" for row in range(21)], "drug": [f"d{row}" for row in range(21)]}
    table = pa.table({**wells, "moa": lists, "e": [[0.5, float(row)] for row in range(21)]})
    pq.write_table(table, tmp_path / "a.parquet")
    flags = ["--id=well", "--compound=drug", "--labels=moa", "--features=^e_"]
    flags += [f"--out={tmp_path / 'data'}"]
    main([str(tmp_path / "a.parquet"), *flags])
    found = load(tmp_path / "data")
    assert found.targets.names == ("3", "7")
    expected = [[int(name in one) for name in (3, 7)] for one in labels]
    assert found.targets.values.tolist() == expected * 10


def test_lines_of_a_gct_may_end_with_tabs(tmp_path):
    screens.gct(tmp_path / "a.gct")
    lines = (tmp_path / "a.gct").read_text().splitlines()
    text = "\n".join([*lines[:2], *(f"{line}\t\t" for line in lines[2:])])
    (tmp_path / "b.gct").write_text(text)
    one, other = (sources.read(tmp_path / name) for name in ("a.gct", "b.gct"))
    assert (one.features, one.columns) == (other.features, other.columns)
    values = [np.concatenate([*found.values(one.features)]) for found in (one, other)]
    np.testing.assert_array_equal(*values)


def test_variables_of_one_name_have_a_remedy(tmp_path):
    pytest.importorskip("anndata")

    def change(found):
        found.var_names = [*screens.SYMBOLS[:-1], screens.SYMBOLS[0]]

    screens.h5ad(tmp_path / "a.h5ad", change=change)
    message = f"variable {screens.SYMBOLS[0]} stands more than once; .* var_names_make_unique"
    with pytest.raises(UserError, match=message):
        sources.read(tmp_path / "a.h5ad")


@pytest.mark.parametrize(("name", "package"), [("a.gctx", "h5py"), ("a.h5ad", "anndata.io")])
def test_an_extra_that_is_not_installed(tmp_path, monkeypatch, name, package):
    monkeypatch.setitem(__import__("sys").modules, package, None)
    (tmp_path / name).write_text("")
    with pytest.raises(UserError, match=r"not installed; python -m pip install 'moa-jax\["):
        main([str(tmp_path / name), f"--out={tmp_path / 'data'}", "--labels=moa"])


def test_groups_within_columns_are_none(tmp_path):
    h5py = pytest.importorskip("h5py")
    for name in ("a.gctx", "b.gctx"):
        screens.gctx(tmp_path / name)
    before = sources.read(tmp_path / "b.gctx")
    with h5py.File(tmp_path / "a.gctx", "a") as opened:
        opened["0/META/COL/more/x"] = opened["0/META/ROW/more/x"] = np.zeros(3)
    found = sources.read(tmp_path / "a.gctx")
    assert (found.columns, *found.about) == (before.columns, *before.about)


@pytest.mark.parametrize(
    ("name", "part", "value", "message"),
    [
        ("a.h5ad", "X", np.zeros((2, 2)), "expected a matrix X of"),
        ("a.h5ad", "X", 3.0, "found one value"),
        ("a.h5ad", "obs", 3.0, "expected a table obs"),
        ("csr.h5ad", "X/indices", 10_000, "cannot be read as AnnData"),
        ("csr.h5ad", "X/indices", -1, "a column of the matrix is below 0"),
        ("csr.h5ad", "X/indptr", 10**6, "cannot be read as AnnData"),
        ("a.gctx", "0/META/ROW/id", 3.0, "cannot be read as GCTX"),
        ("a.gctx", "0/DATA/0/matrix", np.zeros((6, 60)), "found 6 x 60; its axes are exchanged"),
        ("a.gctx", "0/META/COL/pert_id", np.zeros(2), "pert_id: expected"),
        ("a.gctx", "0/META/ROW/pr_is_lm", 3.0, r"pr_is_lm: expected 6 values, found \(\)"),
    ],
)
def test_a_matrix_of_another_layout(tmp_path, name, part, value, message):
    pytest.importorskip("anndata" if name.endswith("h5ad") else "h5py")
    h5py = pytest.importorskip("h5py")
    FORMATS[name](tmp_path / name)
    with h5py.File(tmp_path / name, "a") as opened:
        if part.startswith("X/"):
            opened[part][1] = value
        else:
            del opened[part]
            opened[part] = value
    with pytest.raises(UserError, match=message):
        source = sources.read(tmp_path / name)
        list(source.values(source.features))
