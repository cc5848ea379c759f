"""Places new rows in a fitted UMAP embedding one by one: the compiled loops.

Only a transform imports this file, because numba takes a second. Nothing is compiled with
`fastmath` or in parallel: the same row gives the same bits in any batch. Sections are those of
McInnes, Healy and Melville (2018), https://arxiv.org/abs/1802.03426.
"""

from __future__ import annotations

import numba
import numpy as np

EPOCHS = 30
# A quarter of the rate of a fit, as in umap-learn.
LEARNING_RATE = 0.25
NEGATIVE_SAMPLES = 5
BISECTIONS, TOLERANCE = 64, 1e-5
# Smallest width of a row's kernel, in units of its mean distance.
MIN_WIDTH = 1e-3


@numba.njit
def place(rows, keys, squared, margins, table, embedding, num_neighbors, a, b, repulsion):
    """Returns the coordinates of new rows, [N, components] float32.

    Args:
      rows: [N, columns] float32.
      keys: [N] uint64, the start of each row's random stream.
      squared: [N, M] squared distances to the fitted rows, within
      margins: [N] of the exact ones.
      table: [M, columns] float32 fitted rows.
      embedding: [M, components] float32, theirs; it stays as it is.
      num_neighbors: at least 2.
      a, b: the curve 1 / (1 + a d^2b) of low-dimensional membership.
      repulsion: weight of the negative samples.
    """
    placed = np.empty((len(rows), embedding.shape[1]), np.float32)
    for i in range(len(rows)):
        neighbors, distances = nearest(rows[i], squared[i], margins[i], table, num_neighbors)
        weights = memberships(distances)
        position = weighted_start(neighbors, weights, embedding)
        descend(position, neighbors, weights, embedding, a, b, repulsion, keys[i])
        placed[i] = position
    return placed


@numba.njit
def neighbors(rows, squared, margins, table, count):
    """Returns the `count` nearest rows of the table of each row, and their distances [N, count]."""
    found = np.empty((len(rows), count), np.int64)
    distances = np.empty((len(rows), count))
    for i in range(len(rows)):
        found[i], distances[i] = nearest(rows[i], squared[i], margins[i], table, count)
    return found, distances


@numba.njit
def nearest(row, squared, margin, table, count):
    """Returns the `count` nearest rows of the table, nearest first, and their distances.

    Matrix products round differently in batches of different shape. So `squared` only excludes
    what cannot be among the nearest; the distances that decide are summed pair by pair. Of equal
    distances the first row of the table counts as the nearest.
    """
    neighbors = np.full(count, -1)
    distances = np.full(count, np.inf)
    for other in range(len(table)):
        if squared[other] > distances[-1] + margin:
            continue
        distance = 0.0
        for column in range(len(row)):
            distance += (np.float64(row[column]) - np.float64(table[other, column])) ** 2
        if distance < distances[-1]:
            at = count - 1
            while at > 0 and distances[at - 1] > distance:
                neighbors[at], distances[at] = neighbors[at - 1], distances[at - 1]
                at -= 1
            neighbors[at], distances[at] = other, distance
    return neighbors, np.sqrt(distances)


@numba.njit
def memberships(distances):
    """Returns the membership strengths of a new row in its neighbours, [neighbours].

    exp(-distance / width), with the width at which all but the first sum to log2(neighbours)
    (section 4.1, algorithm 3). The distance to the nearest is not subtracted: a new row need not
    be as near to the fitted rows as they are to each other, and one that equals a fitted row has
    strength 1.
    """
    mean = distances.mean()
    if mean == 0:
        return np.ones_like(distances)
    target = np.log2(len(distances))
    low, high = 0.0, np.inf
    width = mean
    for _ in range(BISECTIONS):
        total = np.exp(-distances[1:] / width).sum()
        if abs(total - target) < TOLERANCE:
            break
        if total > target:
            high = width
        else:
            low = width
        width = 2 * low if np.isinf(high) else (low + high) / 2
    return np.exp(-distances / max(width, MIN_WIDTH * mean))


@numba.njit
def weighted_start(neighbors, weights, embedding):
    """Returns the weighted mean of the neighbours' coordinates, [components] float64.

    A row that equals a fitted one starts at its coordinates.
    """
    if weights[0] == 1:
        return embedding[neighbors[0]].astype(np.float64)
    position = np.zeros(embedding.shape[1])
    for i in range(len(neighbors)):
        position += weights[i] / weights.sum() * embedding[neighbors[i]]
    return position


@numba.njit
def descend(position, neighbors, weights, embedding, a, b, repulsion, key):
    """Moves `position` in place by gradient descent with negative sampling (algorithm 5).

    A neighbour of strength 1 attracts once an epoch, one of strength w every 1 / w epochs; one
    that would come less often than once in all is left out.
    """
    periods = 1 / weights
    next_attraction = periods.copy()
    next_repulsion = periods / NEGATIVE_SAMPLES
    for epoch in range(EPOCHS):
        # umap-learn lowers the rate after the epoch, by the epoch that was: the first two share it.
        rate = LEARNING_RATE * (1 - max(epoch - 1, 0) / EPOCHS)
        for i in range(len(neighbors)):
            if weights[i] < 1 / EPOCHS or next_attraction[i] > epoch:
                continue
            other = embedding[neighbors[i]]
            square = squared_distance(position, other)
            if square > 0:
                step = -2 * a * b * square ** (b - 1) / (a * square**b + 1)
                move(position, other, step, rate)
            next_attraction[i] += periods[i]
            period = periods[i] / NEGATIVE_SAMPLES
            draws = int((epoch - next_repulsion[i]) / period)
            for _ in range(draws):
                key, draw = random_bits(key)
                other = embedding[draw % np.uint64(len(embedding))]
                square = squared_distance(position, other)
                if square > 0:
                    step = 2 * repulsion * b / ((0.001 + square) * (a * square**b + 1))
                    move(position, other, step, rate)
            next_repulsion[i] += draws * period


@numba.njit
def squared_distance(position, other):
    total = 0.0
    for i in range(len(position)):
        total += (position[i] - other[i]) ** 2
    return total


@numba.njit
def move(position, other, step, rate):
    for i in range(len(position)):
        position[i] += rate * min(max(step * (position[i] - other[i]), -4.0), 4.0)


@numba.njit
def random_bits(key):
    """Returns the next state and 64 random bits (SplitMix64, Steele, Lea and Flood 2014)."""
    key += np.uint64(0x9E3779B97F4A7C15)
    bits = (key ^ (key >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return key, bits ^ (bits >> np.uint64(31))
