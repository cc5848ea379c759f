"""Time to a quality: until `profile_nn` scores as well as a tuned peer on rows that neither knows.

Ours grows: a few members, then more, each a whole fit from nothing, until the loss is that of the
peer; the time is that of all of them. Where the largest is not as good the row says so. Peers
choose their length by inner folds or a hold-out of the same training rows. Compilation counts.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np

from benchmarks.row import Peer, Row, Side

# The columns and labels of the embedded data that are used: the most frequent ones.
SIZES = {"tiny": (20, 2), "quick": (200, 8), "full": (772, 23)}
# Members, and the range of their steps: those of `profiles:quick` and of `profiles` come last.
LADDERS = {
    "tiny": ((5, (20, 20)),),
    "quick": ((5, (150, 400)), (12, (150, 800)), (40, (150, 800))),
    "full": ((5, (150, 400)), (12, (150, 800)), (40, None)),
}
TREES = (10, 20, 40, 80, 160)
SPLIT = 0.33

Fit = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


@functools.cache
def data(size: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Returns columns and labels of training rows, then of hidden ones."""
    from moa_jax.data import tables

    dataset = tables.load(tables.sample_folder())
    rows = dataset.take(np.flatnonzero(~dataset.is_control))
    columns, count = SIZES[size]
    frequent = np.argsort(-rows.targets.values.sum(0), kind="stable")[:count]
    x, y = rows.features[:, :columns], rows.targets.values[:, frequent].astype(np.uint8)
    hidden = np.random.default_rng(0).random(len(x)) < SPLIT
    return x[~hidden], y[~hidden], x[hidden], y[hidden]


@functools.cache
def target(name: str, size: str) -> float:
    """Returns the peer's loss on the hidden rows."""
    from moa_jax.training.metrics import mean_log_loss

    x, y, new, labels = data(size)
    return mean_log_loss(labels, PEERS[name][0](x, y, new))


def ours(name: str, size: str) -> Side:
    from moa_jax import MechanismClassifier
    from moa_jax.training.metrics import mean_log_loss

    x, y, new, labels = data(size)
    wanted = target(name, size)

    def run() -> None:
        losses = []
        for members, steps in LADDERS[size]:
            fields = {"members": members} | ({} if steps is None else {"steps": list(steps)})
            fields["explain.model"] = "none"
            folds = 2 if size == "tiny" else None
            model = MechanismClassifier("profiles:networks", folds=folds, overrides=fields)
            model.fit(x, y)
            losses.append(mean_log_loss(labels, model.predict_proba(new)))
            if losses[-1] <= wanted:
                return
        if size != "tiny":
            raise RuntimeError(f"loss {min(losses):.4f} where the peer has {wanted:.4f}")

    return Side(run)


def theirs(name: str, size: str) -> Side:
    x, y, new, _ = data(size)
    return Side(lambda: PEERS[name][0](x, y, new))


def lightgbm(x: np.ndarray, y: np.ndarray, new: np.ndarray) -> np.ndarray:
    """Returns probabilities of new rows; three inner folds choose the number of trees of all."""
    from sklearn.model_selection import KFold

    from moa_jax.training.metrics import mean_log_loss

    folds = list(KFold(3, shuffle=True, random_state=0).split(x))
    losses = [[mean_log_loss(y[b], p) for p in boosted(x[a], y[a], x[b], TREES)] for a, b in folds]
    best = TREES[int(np.argmin(np.mean(losses, 0)))]
    return boosted(x, y, new, (best,))[0]


def boosted(x: np.ndarray, y: np.ndarray, new: np.ndarray, lengths: tuple[int, ...]) -> np.ndarray:
    """Returns probabilities by so many trees each, [lengths, rows, labels]."""
    import lightgbm

    prior = (y.sum(0) + 0.5) / (len(y) + 1)
    found = np.tile(prior, (len(lengths), len(new), 1))
    model = lightgbm.LGBMClassifier(
        n_estimators=max(lengths), learning_rate=0.06, num_leaves=15, min_child_samples=8,
        colsample_bytree=min(1.0, max(0.3, 30 / x.shape[1])), subsample=0.8, subsample_freq=1,
        max_bin=63, verbose=-1, random_state=0,
    )  # fmt: skip
    for label, own in enumerate(y.T):
        if 0 < own.sum() < len(own):
            model.fit(x, own)
            for place, length in enumerate(lengths):
                found[place, :, label] = model.predict_proba(new, num_iteration=length)[:, 1]
    return found


def perceptron(x: np.ndarray, y: np.ndarray, new: np.ndarray) -> np.ndarray:
    """Returns probabilities by scikit-learn's MLP, whose penalty three inner folds choose."""
    from sklearn.model_selection import KFold
    from sklearn.neural_network import MLPClassifier
    from sklearn.preprocessing import StandardScaler

    from moa_jax.training.metrics import mean_log_loss

    def predicted(alpha: float, a: np.ndarray, labels: np.ndarray, b: np.ndarray) -> np.ndarray:
        scale = StandardScaler().fit(a)
        network = MLPClassifier((100,), alpha=alpha, max_iter=50, random_state=0)
        return network.fit(scale.transform(a), labels).predict_proba(scale.transform(b))

    folds, alphas = list(KFold(3, shuffle=True, random_state=0).split(x)), (0.1, 1.0, 10.0)
    losses = [
        np.mean([mean_log_loss(y[b], predicted(alpha, x[a], y[a], x[b])) for a, b in folds])
        for alpha in alphas
    ]
    return predicted(alphas[int(np.argmin(losses))], x, y, new)


def tabm(x: np.ndarray, y: np.ndarray, new: np.ndarray) -> np.ndarray:
    """Returns probabilities by TabM, whose epoch a hold-out of a fifth chooses."""
    import tabm
    from sklearn.preprocessing import StandardScaler

    from benchmarks.pytorch import torch

    torch.manual_seed(0)
    scale = StandardScaler().fit(x)
    table, labels = (
        torch.tensor(scale.transform(x), dtype=torch.float32), torch.tensor(y, dtype=torch.float32)
    )  # fmt: skip
    held = torch.rand(len(x), generator=torch.Generator().manual_seed(0)) < 0.2
    model = tabm.TabM.make(n_num_features=x.shape[1], cat_cardinalities=[], d_out=y.shape[1])
    optimiser = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=3e-4)
    loss = torch.nn.functional.binary_cross_entropy_with_logits
    near, own = table[~held], labels[~held]
    best, kept, waited = np.inf, model.state_dict(), 0
    while waited < 16:
        model.train()
        for rows in torch.randperm(len(near)).split(64):
            optimiser.zero_grad()
            logits = model(near[rows])  # every one of its networks learns by itself
            loss(logits, own[rows, None].expand_as(logits)).backward()
            optimiser.step()
        model.eval()
        with torch.no_grad():
            mean = torch.sigmoid(model(table[held])).mean(1)
        value = float(torch.nn.functional.binary_cross_entropy(mean, labels[held]))
        waited = 0 if value < best else waited + 1
        if value < best:
            best, kept = value, {k: v.clone() for k, v in model.state_dict().items()}
    model.load_state_dict(kept)
    with torch.no_grad():
        far = torch.tensor(scale.transform(new), dtype=torch.float32)
        return torch.sigmoid(model(far)).mean(1).numpy().astype(np.float64)


# By name: what fits and predicts, and what it needs.
PEERS: dict[str, tuple[Fit, tuple[str, ...], str]] = {
    "LightGBM": (lightgbm, ("lightgbm",), "moa-jax[lightgbm]"),
    "scikit-learn's MLP": (perceptron, (), ""),
    "TabM": (tabm, ("torch", "tabm"), "moa-jax[torch] tabm"),
}
NAMES = {"LightGBM": "lightgbm", "scikit-learn's MLP": "mlp", "TabM": "tabm"}

ROWS = tuple(
    Row(
        f"quality.{NAMES[name]}", f"`profile_nn` to the loss of {name}", "s",
        functools.partial(ours, name),
        {name: Peer(functools.partial(theirs, name), *PEERS[name][1:])},
        most=1, warms=False, beside=True, quick=name == "LightGBM",
    )
    for name in PEERS
)  # fmt: skip
