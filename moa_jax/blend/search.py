"""Search for the weights of a blend on out-of-fold predictions, and its score without optimism."""

from __future__ import annotations

import functools
import importlib.util
import warnings
from collections.abc import Callable, Iterator

import numpy as np
from scipy import optimize

from moa_jax.errors import UserError
from moa_jax.training.means import LOG_ODDS, PROBABILITIES, Mean
from moa_jax.training.metrics import EPSILON, mean_log_loss

# Searched weights are multiples of this power of two: sums of them are exact in float64.
RESOLUTION = 2.0**-40
CELLS_IN_CACHE = 2**14

# From predictions [K, N, L], targets [N, L] and, where not all are known, [N, L] bool that tells
# which are, to weights, [K] or, one set per target, [K, L].
Search = Callable[..., np.ndarray]


def blended(weights: np.ndarray, predictions: np.ndarray, mean: Mean = PROBABILITIES) -> np.ndarray:
    """Returns the weighted mean of K models' predictions, [N, L].

    Args:
      weights: [K] weights of sum 1, or [K, L] with weights of their own for each target.
      predictions: [K, N, L] probabilities of K models.
      mean: what the mean is of.

    >>> two_models = np.array([[[0.5, 0.25]], [[0.0, 0.75]]])
    >>> blended(np.array([0.5, 0.5]), two_models).tolist()
    [[0.25, 0.5]]
    >>> blended(np.array([[1.0, 0.0], [0.0, 1.0]]), two_models).tolist()
    [[0.5, 0.75]]
    """
    mean = mean.of_several(len(predictions))
    summed = mean.of(predictions)
    if np.ndim(weights) == 2:
        return mean.back(np.einsum("kl,knl->nl", weights, summed))
    return mean.back(np.tensordot(weights, summed, axes=1))


def known_cells(
    predictions: np.ndarray, targets: np.ndarray, known: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the predictions [K, n, 1] and targets [n, 1] of known cells; for None as they are.

    >>> predictions, targets = np.array([[[0.1, 0.2]], [[0.3, 0.4]]]), np.array([[0, 1]])
    >>> of_known, labels = known_cells(predictions, targets, np.array([[False, True]]))
    >>> of_known.tolist(), labels.tolist()
    ([[[0.2]], [[0.4]]], [[1]])
    """
    if known is None:
        return predictions, targets
    return predictions[:, known][..., None], targets[known][:, None]


def log_loss(
    weights: np.ndarray,
    predictions: np.ndarray,
    targets: np.ndarray,
    known: np.ndarray | None = None,
    mean: Mean = PROBABILITIES,
) -> float:
    """Returns the mean log loss of the weighted mean of predictions, clipped at 1e-15.

    Args:
      weights: [K] or [K, L] weights.
      predictions: [K, N, L] probabilities of K models.
      targets: [N, L] labels, 0 or 1.
      known: [N, L] bool, the cells whose losses are averaged; None for all.
      mean: what the weighted mean is of.

    >>> predictions = np.array([[[0.2], [0.9]], [[0.4], [0.7]]])
    >>> print(f"{log_loss(np.array([0.5, 0.5]), predictions, np.array([[0], [1]])):.4f}")
    0.2899
    """
    if np.ndim(weights) == 2:
        return mean_log_loss(targets, blended(weights, predictions, mean), known)
    predictions, targets = known_cells(predictions, targets, known)
    mean, loss = mean.of_several(len(predictions)), 0.0
    for blend, labels, _ in _parts(weights, mean.of(predictions), targets, mean):
        loss -= np.log(np.abs(1 - labels - np.clip(blend, EPSILON, 1 - EPSILON))).sum()
    return loss / targets.size


def log_loss_and_gradient(
    weights: np.ndarray, summed: np.ndarray, targets: np.ndarray, mean: Mean = PROBABILITIES
) -> tuple[float, np.ndarray]:
    """Returns `log_loss` and its gradient [K] with respect to the weights.

    With q the blend and y the label, d/dq of a cell's loss is (q - y) / (q (1 - q)), which is
    1 / (1 - y - q) for y in {0, 1}; where q is clipped the loss is flat. By the log odds of q it
    is q - y.

    Args:
      weights: [K] weights.
      summed: [K, N, L] what is summed, which is `mean.of` of the probabilities of K models.
      targets: [N, L] labels, 0 or 1.
      mean: what the weighted mean is of.
    """
    loss, gradient = 0.0, np.zeros(len(summed))
    for blend, labels, cells in _parts(weights, summed, targets, mean):
        clipped = np.clip(blend, EPSILON, 1 - EPSILON)
        margin = 1 - labels - clipped
        loss -= np.log(np.abs(margin)).sum()
        slope = clipped - labels if mean is LOG_ODDS else 1 / margin
        gradient += cells @ ((blend == clipped) * slope)
    return loss / targets.size, gradient / targets.size


def slsqp(
    predictions: np.ndarray,
    targets: np.ndarray,
    known: np.ndarray | None = None,
    prior: float = 0.0,
    mean: Mean = PROBABILITIES,
) -> np.ndarray:
    """Finds the weights in [0, 1] that sum to 1 and minimise `log_loss`.

    With a prior they are the most probable ones, where equal weights were expected: the negative
    log likelihood, the loss summed over cells, has prior * K * sum((w - 1 / K)^2) beside it. All
    weight on one of K models then costs prior * (K - 1) nats more than equal weights, however many
    rows there are.

    Sequential least squares from equal weights, to a tolerance of 1e-10, as the
    original does it, but with the analytic gradient. What it finds is rounded to multiples of
    2^-40, the largest weight taking up the difference: bounds and sum hold exactly. Should a
    single model be better than that, it gets the whole weight.

    Args:
      predictions: [K, N, L] float64 probabilities of K models.
      targets: [N, L] labels, 0 or 1.
      known: [N, L] bool, the cells that count; None for all. Without any, weights are equal.
      prior: see above, in nats; 0 for none.
      mean: what the weighted mean is of.

    Returns:
      [K] weights.

    References:
      D. Kraft (1988), A software package for sequential quadratic programming, DFVLR-FB 88-28.

    >>> predictions = np.array([[[0.3], [0.9], [0.1]], [[0.1], [0.6], [0.3]]])
    >>> slsqp(predictions, np.array([[0], [1], [0]])).round(3).tolist()
    [1.0, 0.0]
    """
    predictions, targets = known_cells(predictions, targets, known)
    num_models = len(predictions)
    ones = np.ones(num_models)
    if not targets.size:
        return _on_simplex(ones / num_models)
    # Per positive label rather than per cell the loss has a curvature near the unit matrix that
    # SLSQP starts from: a quarter of the steps where positives are rare.
    scale = targets.size / max(int(np.count_nonzero(targets)), 1)

    strength, summed = prior * num_models / targets.size, mean.of(predictions)

    def objective(weights: np.ndarray) -> tuple[float, np.ndarray]:
        loss, gradient = log_loss_and_gradient(weights, summed, targets, mean)
        apart = weights - 1 / num_models
        loss += strength * float(apart @ apart)
        return scale * loss, scale * (gradient + 2 * strength * apart)

    with warnings.catch_warnings():
        # A trial step may leave the bounds by a rounding error; scipy clips it and says so.
        warnings.filterwarnings("ignore", "Values in x were outside bounds", RuntimeWarning)
        found = optimize.minimize(
            objective,
            ones / num_models,
            method="SLSQP",
            jac=True,
            bounds=[(0, 1)] * num_models,
            constraints={"type": "eq", "fun": lambda w: w.sum() - 1, "jac": lambda w: ones},
            tol=1e-10,
        ).x
    candidates = [_on_simplex(found), *np.eye(num_models)]
    return min(candidates, key=lambda weights: objective(weights)[0])


def per_target(
    predictions: np.ndarray,
    targets: np.ndarray,
    known: np.ndarray | None = None,
    prior: float = 0.0,
    mean: Mean = PROBABILITIES,
) -> np.ndarray:
    """Finds by `slsqp` weights of their own for each target.

    Rare targets have few positives to learn from, and without a prior many of their weights end at
    0 or 1: look at the nested score before using them.

    Args:
      predictions: [K, N, L] float64 probabilities of K models.
      targets: [N, L] labels, 0 or 1.
      known, prior, mean: as for `slsqp`, the prior for each target.

    Returns:
      [K, L] weights; each column sums to 1.
    """
    # One transpose, rather than a strided copy at every step of every search.
    columns = np.ascontiguousarray(np.moveaxis(predictions, -1, 0))
    masks = [None] * len(columns) if known is None else known.T[..., None]
    found = [
        slsqp(p[..., None], y[:, None], mask, prior, mean)
        for p, y, mask in zip(columns, targets.T, masks, strict=True)
    ]
    return np.stack(found, axis=1)


def tpe(
    predictions: np.ndarray,
    targets: np.ndarray,
    trials: int,
    seed: int,
    known: np.ndarray | None = None,
    mean: Mean = PROBABILITIES,
) -> np.ndarray:
    """Finds weights in [0, 1], free in their sum, by Optuna's tree-structured Parzen estimator.

    The original's search space and objective: the weighted sum is clipped to [0, 1] and 1e-15 is
    added inside both logarithms. Unlike the original's, the trials run one after the other in a
    fresh study, so that a seed gives the same weights again, and start from equal weights.

    Args:
      predictions: [K, N, L] float64 probabilities of K models.
      targets: [N, L] labels, 0 or 1.
      trials: number of weight vectors that are tried.
      seed: seed of the sampler.
      known, mean: as for `slsqp`.

    Returns:
      [K] weights of the best trial, as found; see `normalised`.

    References:
      J. Bergstra, R. Bardenet, Y. Bengio and B. Kégl (2011), Algorithms for hyper-parameter
      optimization, NIPS 24.

    Raises:
      UserError: Optuna is not installed.
    """
    check_installed("tpe")
    import optuna

    predictions, targets = known_cells(predictions, targets, known)
    if not targets.size:
        return np.full(len(predictions), 1 / len(predictions))
    names, summed = [f"w{index}" for index in range(len(predictions))], mean.of(predictions)

    def objective(trial: optuna.Trial) -> float:
        weights = np.array([trial.suggest_float(name, 0.0, 1.0) for name in names])
        return _box_log_loss(weights, summed, targets, mean)

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed))
    study.enqueue_trial(dict.fromkeys(names, 1 / len(names)))
    study.optimize(objective, n_trials=trials)
    return np.array([study.best_params[name] for name in names])


def normalised(weights: np.ndarray) -> np.ndarray:
    """Returns the weights [K] divided by their sum; equal ones where all are 0.

    >>> normalised(np.array([1.0, 0.5, 0.5])).tolist()
    [0.5, 0.25, 0.25]
    >>> normalised(np.zeros(2)).tolist()
    [0.5, 0.5]
    """
    total = weights.sum()
    return weights / total if total > 0 else np.full_like(weights, 1 / len(weights))


def method(
    name: str, trials: int, seed: int, prior: float = 0.0, mean: Mean = PROBABILITIES
) -> Search:
    """Returns the search of a name: `slsqp`, `per_target`, or `tpe` with its weights normalised."""
    if name == "tpe":
        tried = functools.partial(tpe, trials=trials, seed=seed, mean=mean)
        return lambda predictions, targets, known=None: normalised(
            tried(predictions, targets, known=known)
        )
    found = {"slsqp": slsqp, "per_target": per_target}[name]
    return functools.partial(found, prior=prior, mean=mean)


def check_installed(name: str) -> None:
    """Checks that a method has what it needs, before hours of training.

    Raises:
      UserError: Optuna is not installed.
    """
    if name == "tpe" and importlib.util.find_spec("optuna") is None:
        raise UserError(
            "config.blend.method: expected Optuna for tpe, found none; "
            "pip install 'moa-jax[optuna]', or take slsqp"
        )


def nested(
    search: Search,
    predictions: np.ndarray,
    targets: np.ndarray,
    folds: np.ndarray,
    known: np.ndarray | None = None,
    mean: Mean = PROBABILITIES,
) -> tuple[float, np.ndarray, np.ndarray]:
    """Scores a search without its optimism: no row is blended with weights it helped to find.

    Args:
      search: what finds the weights.
      predictions: [K, N, L] float64 probabilities of K models.
      targets: [N, L] labels, 0 or 1.
      folds: [N] fold of each row.
      known: [N, L] bool, the cells that are searched and scored on; None for all.
      mean: what the blend is the weighted mean of.

    Returns:
      The loss over all rows; [F, K] or [F, K, L] weights, those of f found without the f-th fold;
      [N, L] blended probabilities.

    >>> def better_of_two(predictions, targets):
    ...     first, second = np.eye(2)
    ...     found = [log_loss(weights, predictions, targets) for weights in (first, second)]
    ...     return first if found[0] < found[1] else second
    >>> predictions = np.array([[[0.1], [0.6]], [[0.2], [0.9]]])
    >>> labels, folds = np.array([[0], [1]]), np.array([0, 1])
    >>> loss, weights, blend = nested(better_of_two, predictions, labels, folds)
    >>> weights.tolist()  # the first row's were found on the second
    [[0.0, 1.0], [1.0, 0.0]]
    >>> blend.tolist()
    [[0.2], [0.6]]
    """
    blend = np.empty(targets.shape)
    found = []
    for fold in np.unique(folds):
        held_out = folds == fold
        # Unlike indexing, which keeps the rows outermost, this lays the copy out model by model.
        others = predictions.compress(~held_out, axis=1)
        of_others = () if known is None else (known[~held_out],)
        found.append(search(others, targets[~held_out], *of_others))
        blend[held_out] = blended(found[-1], predictions[:, held_out], mean)
    return mean_log_loss(targets, blend, known), np.stack(found), blend


def _box_log_loss(
    weights: np.ndarray, summed: np.ndarray, targets: np.ndarray, mean: Mean
) -> float:
    loss = 0.0
    for blend, labels, _ in _parts(weights, summed, targets, mean):
        loss -= np.log(np.abs(1 - labels - np.clip(blend, 0, 1)) + EPSILON).sum()
    return loss / targets.size


def _parts(
    weights: np.ndarray, summed: np.ndarray, targets: np.ndarray, mean: Mean = PROBABILITIES
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yields blend [n], labels [n] and what is summed [K, n] of cells that fit in the cache.

    For a label y in {0, 1} and a probability q the loss is -log|1 - y - q|: one logarithm.
    """
    cells, labels = summed.reshape(len(summed), -1), targets.ravel()
    for start in range(0, labels.size, CELLS_IN_CACHE):
        part = cells[:, start : start + CELLS_IN_CACHE]
        yield mean.back(weights @ part), labels[start : start + CELLS_IN_CACHE], part


def _on_simplex(weights: np.ndarray) -> np.ndarray:
    weights = np.round(np.clip(weights, 0, 1) / RESOLUTION) * RESOLUTION
    weights[weights.argmax()] += 1 - weights.sum()
    return weights
