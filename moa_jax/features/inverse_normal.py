"""Inverse of the standard normal distribution as a compiled loop, with the bits of scipy's `ndtri`.

The formulas and their numbers are those of Cephes, which scipy has them from: S. L. Moshier,
Methods and Programs for Mathematical Functions (1989), `ndtri`. Ranks beyond e^-32, where it has
another formula, are left out.

Nothing is compiled with `fastmath`, so that no product and sum become one rounding.
"""

from __future__ import annotations

import functools
import math

import numba
import numpy as np
from scipy import special

# Up to this rank, and from as far below 1, are the tails.
TAIL = 0.13533528323661269189
# Ranks below this count as it; their scores are beyond -5.2 all the same.
LEAST = 1e-9
# Square root of 2 pi.
ROOT = 2.50662827463100050242
# Numerator and denominator; the latter's leading 1 is left out.
CENTRE = (
    (
        -5.99633501014107895267e1, 9.80010754185999661536e1, -5.66762857469070293439e1,
        1.39312609387279679503e1, -1.23916583867381258016e0,
    ),
    (
        1.95448858338141759834e0, 4.67627912898881538453e0, 8.63602421390890590575e1,
        -2.25462687854119370527e2, 2.00260212380060660359e2, -8.20372256168333339912e1,
        1.59056225126211695515e1, -1.18331621121330003142e0,
    ),
)  # fmt: skip
TAILS = (
    (
        4.05544892305962419923e0, 3.15251094599893866154e1, 5.71628192246421288162e1,
        4.40805073893200834700e1, 1.46849561928858024014e1, 2.18663306850790267539e0,
        -1.40256079171354495875e-1, -3.50424626827848203418e-2, -8.57456785154685413611e-4,
    ),
    (
        1.57799883256466749731e1, 4.53907635128879210584e1, 4.13172038254672030440e1,
        1.50425385692907503408e1, 2.50464946208309415979e0, -1.42182922854787788574e-1,
        -3.80806407691578277194e-2, -9.33259480895457427372e-4,
    ),
)  # fmt: skip


@numba.njit(nogil=True, inline="always")
def power_sum(x, factors):
    """Returns a polynomial of x, whose factors begin with that of the highest power."""
    total = factors[0]
    for factor in factors[1:]:
        total = total * x + factor
    return total


@numba.njit(nogil=True, inline="always")
def monic_sum(x, factors):
    """Returns a polynomial whose highest power, before these factors, has the factor 1."""
    total = x + factors[0]
    for factor in factors[1:]:
        total = total * x + factor
    return total


@functools.cache
def is_alike() -> bool:
    """Tells whether the loop has the bits of scipy's function here, on a grid of 20,000 ranks.

    They depend on how the machine's compilers round a product and a sum, and on its logarithm.
    """
    small = np.exp(np.linspace(math.log(5e-8), math.log(0.2), 5000))
    ranks = np.concatenate([np.linspace(small[0], 1 - small[0], 10_000), small, 1 - small])
    found = ranks.copy()
    for part in np.split(found, 100):
        replace(part, room(len(part)))
    return found.tobytes() == special.ndtri(ranks).tobytes()


@numba.njit(nogil=True)
def room(count):
    """Returns what `replace` needs beside so many ranks at most."""
    return np.empty(count, np.int32), np.empty((3, count))


@numba.njit(nogil=True)
def replace(ranks, room):
    """Replaces ranks [N] by their normal scores; those near 0 and 1 by numbers beyond +-5.2."""
    which, (sides, roots, logs) = room
    count = 0
    for i in range(len(ranks)):
        rank = ranks[i]
        which[count] = i
        sides[count] = rank
        count += int((rank <= TAIL) | (rank > 1.0 - TAIL))
    # All by the formula of the centre, several at once as nothing branches, then the tails.
    for i in range(len(ranks)):
        from_half = ranks[i] - 0.5
        square = from_half * from_half
        bent = from_half * (square * power_sum(square, CENTRE[0]) / monic_sum(square, CENTRE[1]))
        ranks[i] = (from_half + bent) * ROOT
    for i in range(count):
        rank = sides[i]
        is_upper = rank > 1.0 - TAIL
        sides[i] = 1.0 if is_upper else -1.0
        logs[i] = math.log(max(1.0 - rank if is_upper else rank, LEAST))
    for i in range(count):
        roots[i] = math.sqrt(-2.0 * logs[i])
    for i in range(count):
        logs[i] = math.log(roots[i])
    for i in range(count):
        root = roots[i]
        inverse = 1.0 / root
        bent = inverse * power_sum(inverse, TAILS[0]) / monic_sum(inverse, TAILS[1])
        ranks[which[i]] = sides[i] * (root - logs[i] / root - bent)
