"""A small screen in every format that is read, for the tests of what reads it."""

import warnings

import numpy as np
import pandas as pd

WELLS, GENES = 60, 6
FEATURES = [f"{part}_{what}" for part in ("Cells", "Cytoplasm", "Nuclei") for what in ("A", "B")]
SYMBOLS = ["TP53", "c-Fos", "MYC", "EGFR", "KRAS", "ACTB"]
IDS = ["7157", "2353", "4609", "1956", "3845", "60"]
LANDMARKS = [1, 1, 1, 1, 0, 1]
MOAS = ["kinase inhibitor", "agonist|channel blocker", "agonist", None]


def screen():
    """Twelve compounds of four annotations on two plates, every sixth well a control.

    The wells of a compound are alike; those of the fourth annotation have none.
    """
    generator = np.random.default_rng(0)
    rows = np.arange(WELLS)
    is_control = rows % 6 == 5
    drug = np.where(is_control, 12, rows % 12)
    values = generator.normal(size=(13, GENES))[drug] + 0.3 * generator.normal(size=(WELLS, GENES))
    return pd.DataFrame(
        {
            "plate": np.where(rows < 30, "P1", "P2").astype(object),
            "well": [f"A{row % 30:02d}" for row in rows],
            "drug": [("DMSO" if one == 12 else f"BRD-{one:02d}") for one in drug],
            "moa": [None if c else MOAS[d % 4] for d, c in zip(drug, is_control, strict=True)],
            "dose": [
                None if c else (0.37, 10.0)[r % 2] for r, c in zip(rows, is_control, strict=True)
            ],
            "hours": np.where(rows % 3, 24, 48),
            "count": generator.integers(100, 900, WELLS),
        },
        dtype=object,
    ), values.round(4)


def cell_painting(path):
    """A table as pycytominer writes it, .csv, .csv.gz, .tsv.bz2 or .parquet."""
    about, values = screen()
    names = {
        "plate": "Metadata_Plate", "well": "Metadata_Well", "drug": "Metadata_broad_sample",
        "moa": "Metadata_moa", "dose": "Metadata_mmoles_per_liter", "hours": "Metadata_timepoint",
        "count": "Metadata_Object_Count",
    }  # fmt: skip
    table = pd.concat([about.rename(columns=names), pd.DataFrame(values, columns=FEATURES)], axis=1)
    if path.suffix == ".parquet":
        table.infer_objects().to_parquet(path, index=False)
    else:
        table.to_csv(path, index=False, sep="\t" if ".tsv" in path.suffixes else ",")
    return table


def connectivity_map():
    """Columns about wells as the Connectivity Map has them, and the matrix [wells, genes]."""
    about, values = screen()
    is_control = about["drug"] == "DMSO"
    columns = {
        "pert_id": about["drug"],
        "pert_type": np.where(is_control, "ctl_vehicle", "trt_cp"),
        "pert_dose": about["dose"].astype(float).fillna(-666),
        "pert_itime": [f"{hours} h" for hours in about["hours"]],
        "moa": about["moa"].fillna("-666"),
        "cell_id": ["A375"] * WELLS,
        "rna_plate": about["plate"],
    }
    ids = [f"SIG{row}" for row in range(WELLS)]
    columns = {name: list(cells) for name, cells in columns.items()}
    return pd.DataFrame(columns, index=ids, dtype=object), values


def gct(path):
    about, values = connectivity_map()
    lines = ["#1.3", f"{GENES}\t{WELLS}\t2\t{about.shape[1]}"]
    lines.append("\t".join(["id", "pr_gene_symbol", "pr_is_lm", *about.index]))
    for name in about:
        lines.append("\t".join([name, "na", "na", *map(str, about[name])]))
    for gene in range(GENES):
        head = [IDS[gene], SYMBOLS[gene], str(LANDMARKS[gene])]
        lines.append("\t".join([*head, *map(str, values[:, gene])]))
    path.write_text("\n".join(lines) + "\n")


def gctx(path, described=True):
    import h5py

    about, values = connectivity_map()
    with h5py.File(path, "w") as file:
        file["0/DATA/0/matrix"] = values.astype(np.float32)
        file["0/META/ROW/id"] = np.array(IDS, "S")
        file["0/META/COL/id"] = np.array(list(about.index), "S")
        if described:
            file["0/META/ROW/pr_gene_symbol"] = np.array(SYMBOLS, "S")
            file["0/META/ROW/pr_is_lm"] = np.array(LANDMARKS)
            for name in about:
                texts = [str(cell) for cell in about[name]]
                file[f"0/META/COL/{name}"] = np.array(texts, "S")


def h5ad(path, sparse=None, change=None):
    import scipy.sparse

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import anndata

        # anndata does not write the texts of pandas 3.
        with pd.option_context("future.infer_string", False):
            about, values = connectivity_map()
            matrix = values.astype(np.float32)
            matrix = getattr(scipy.sparse, f"{sparse}_matrix")(matrix) if sparse else matrix
            obs = about.astype(str).replace({"-666": np.nan}).astype("category")
            found = anndata.AnnData(matrix, obs=obs, var=pd.DataFrame(index=SYMBOLS))
            if change is not None:
                change(found)
            found.write_h5ad(path)


# Names of the columns of each matrix beside X, and its factor.
LAYERS = {
    "scaled": (SYMBOLS, 2.0),
    "raw": (["R1", "R2", *SYMBOLS[2:]], 3.0),
    "X_pca": ([f"X_pca_{number}" for number in range(1, 7)], 4.0),
    "named": ([f"part {number}" for number in range(6)], 5.0),
    "sparse": ([f"sparse_{number}" for number in range(1, 7)], 6.0),
}


def layered(found):
    """Gives AnnData the matrices of `LAYERS`, which are multiples of X."""
    import scipy.sparse

    raw = type(found)(3 * found.X, obs=found.obs.copy())
    raw.var_names = LAYERS["raw"][0]
    found.raw = raw
    found.layers["scaled"] = 2 * found.X
    found.obsm["X_pca"] = 4 * found.X
    found.obsm["named"] = pd.DataFrame(5 * found.X, found.obs_names, LAYERS["named"][0])
    found.obsm["sparse"] = scipy.sparse.csr_matrix(6 * found.X)
