"""Log losses in float64 numpy, in the conventions that are in use for this task.

float32 will not do: there 1 - 1e-15 is 1, so that a sure and wrong prediction would be infinite.

Where labels are unknown, `known` [N, L] bool tells the cells that a mean is of; None where all are.
"""

from __future__ import annotations

import numpy as np

EPSILON = 1e-15


def mean_log_loss(y: np.ndarray, p: np.ndarray, known: np.ndarray | None = None) -> float:
    """Returns the mean log loss over known cells, predictions clipped to [1e-15, 1 - 1e-15].

    This is the competition's metric where rows are all test rows, and the primary score here
    where they are the treated rows.

    Args:
      y: [N, L] targets, 0 or 1.
      p: [N, L] probabilities.
      known: [N, L] bool, or None.

    References:
      Evaluation of https://www.kaggle.com/competitions/lish-moa

    >>> round(mean_log_loss(np.array([[0, 1]]), np.array([[0.5, 0.25]])), 4)
    1.0397
    >>> round(mean_log_loss(np.array([[0]]), np.array([[1.0]])), 4)  # sure and wrong
    34.5396
    """
    if known is not None:
        y, p = np.asarray(y)[known][:, None], np.asarray(p)[known][:, None]
    return float(target_log_losses(y, p).mean())


def target_log_losses(y: np.ndarray, p: np.ndarray, known: np.ndarray | None = None) -> np.ndarray:
    """Returns the clipped log loss of each target, [L].

    >>> labels, probabilities = np.array([[0, 1], [0, 0]]), np.full((2, 2), [0.5, 0.25])
    >>> target_log_losses(labels, probabilities).round(4).tolist()
    [0.6931, 0.837]
    """
    y, p = np.asarray(y, np.float64), np.asarray(p, np.float64)
    p = np.clip(p, EPSILON, 1 - EPSILON)
    where = True if known is None else known
    return -np.mean(y * np.log(p) + (1 - y) * np.log(1 - p), axis=0, where=where)


def mean_log_loss_epsilon(y: np.ndarray, p: np.ndarray, known: np.ndarray | None = None) -> float:
    """Returns the mean log loss with 1e-15 added inside both logarithms, nothing clipped."""
    y, p = np.asarray(y, np.float64), np.asarray(p, np.float64)
    cells = y * np.log(p + EPSILON) + (1 - y) * np.log(1 - p + EPSILON)
    return float(-np.mean(cells if known is None else cells[known]))


def printed_log_loss(
    y: np.ndarray, p: np.ndarray, num_controls: int, known: np.ndarray | None = None
) -> float:
    """Returns the score that the original's dense-network scripts print.

    It counts control rows, which are right by definition, and divides by one target too many.

    Args:
      y: [N, L] targets of the treated rows.
      p: [N, L] probabilities of the treated rows.
      num_controls: number of control rows beside them.
      known: [N, L] bool, or None.

    >>> labels, probabilities = np.array([[0]]), np.array([[0.5]])
    >>> printed_log_loss(labels, probabilities, 1) == mean_log_loss(labels, probabilities) / 4
    True
    """
    rows, targets = _size(y, known)
    return mean_log_loss(y, p, known) * rows / (rows + num_controls) * targets / (targets + 1)


def conventions(
    y: np.ndarray,
    p: np.ndarray,
    num_controls: int,
    control_p: np.ndarray | None = None,
    known: np.ndarray | None = None,
) -> dict[str, float]:
    """Returns the score in every convention of the original's sources.

    `treated` is the primary one. `epsilon` is that of the 2-heads network and of the search with
    Optuna, `epsilon_all` of the image networks, which predict the control rows like any other;
    `printed` is what the scripts of the 3-stage and Simple NNs print, which fill the controls with
    0, `printed_treated` the one of NN + TabNet. They do not compare.

    Args:
      y: [N, L] targets of the treated rows.
      p: [N, L] probabilities of the treated rows.
      num_controls: number of control rows; their targets are 0.
      control_p: [num_controls, L] probabilities that the model gave them, which `epsilon_all`
        counts as they are. None where it predicts treated rows only: then they are 0.
      known: [N, L] bool, or None.

    >>> scores = conventions(np.array([[0, 1]]), np.array([[0.5, 0.25]]), num_controls=1)
    >>> for name, score in scores.items():
    ...     print(name, round(score, 4))
    treated 1.0397
    epsilon 1.0397
    epsilon_all 0.5199
    printed 0.3466
    printed_treated 0.6931
    """
    rows, _ = _size(y, known)
    epsilon = mean_log_loss_epsilon(y, p, known)
    of_controls = -np.log(1 + EPSILON)
    if num_controls and control_p is not None:
        of_controls = mean_log_loss_epsilon(np.zeros_like(control_p), control_p)
    total = rows * epsilon + num_controls * of_controls
    return {
        "treated": mean_log_loss(y, p, known),
        "epsilon": epsilon,
        "epsilon_all": float(total / (rows + num_controls)),
        "printed": printed_log_loss(y, p, num_controls, known),
        "printed_treated": printed_log_loss(y, p, 0, known),
    }


def _size(y: np.ndarray, known: np.ndarray | None) -> tuple[float, int]:
    """Returns rows and targets; of rows with unknown labels the share that is known."""
    rows, targets = np.shape(y)
    return rows if known is None else known.sum() / targets, targets
