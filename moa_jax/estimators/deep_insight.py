"""DeepInsight: tables to images in scikit-learn's manner, for any network that looks at images."""

from __future__ import annotations

import warnings
from typing import Any, Self

import jax
import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from moa_jax.deepinsight import images
from moa_jax.deepinsight.feature_map import FeatureMap
from moa_jax.deepinsight.log_scale import LogScale
from moa_jax.errors import UserError
from moa_jax.estimators import checks, refit, row_names
from moa_jax.report import figures
from moa_jax.schema import LARGEST, shown
from moa_jax.store import memory
from moa_jax.training import conventions

# What t-SNE alone looks at.
TSNE, PERPLEXITY = "auto", 5.0
# The largest side of an image, as in the configuration of the image networks.
MOST_PIXELS = 4096
# Rows per device call, of which one program is compiled.
_ROWS = 32


class DeepInsight(TransformerMixin, BaseEstimator):
    """Images of rows in which features that are alike lie close together (Sharma et al., 2019).

    Rows are scaled to [0, 1] by `LogScale`, features are placed in the plane by `FeatureMap`, and
    a pixel holds the mean, the minimum and the maximum of its features, 0 without any. This is
    the input of the image networks of the winning solution; `EfficientNet` and `ResNeSt` take it
    as it is.

    >>> table = np.random.default_rng(0).normal(size=(20, 5))
    >>> DeepInsight(resolution=8, embedding="pca").fit(table).transform(table).shape
    (20, 8, 8, 3)

    Args:
      resolution: side of the image in pixels.
      embedding, tsne, closing_edge, perplexity: see `FeatureMap`; tsne and perplexity have a use
        with t-SNE alone. What takes longer than half a minute is told in one line before.
      random_state: seed of the embedding, generator, or None for another one each time.

    Attributes:
      n_features_in_: number of columns of X, F.
      feature_names_in_: [F] their names, if X had names that are all strings.
      scale_: the fitted `LogScale`.
      map_: the fitted `FeatureMap`.
      pixels_: [F, 2] int32 row and column of every feature.
      resolution_: side of the images.
      seed_: the seed that was drawn from `random_state`.

    References:
      Sharma et al. (2019), DeepInsight: A methodology to transform a non-image data to an image
      for convolution neural network architecture, https://doi.org/10.1038/s41598-019-47765-6.
    """

    def __init__(
        self,
        *,
        resolution=224,
        embedding="tsne",
        tsne=TSNE,
        closing_edge=False,
        perplexity=PERPLEXITY,
        random_state=1120,
    ):
        self.resolution = resolution
        self.embedding = embedding
        self.tsne = tsne
        self.closing_edge = closing_edge
        self.perplexity = perplexity
        self.random_state = random_state

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags

    @refit.all_or_nothing
    def fit(self, X, y=None) -> Self:
        """Learns scale and map of X [N, F], finite numbers; y is ignored.

        Raises:
          ValueError: X or a parameter is not what is expected.
        """
        self._check_parameters()
        X = _plain(X)
        X = validate_data(self, X, dtype=np.float64)
        self.seed_ = checks.seed(self.random_state)
        self.scale_ = LogScale().fit(X)
        if not self.scale_.maximum_ and np.ptp(X):
            warnings.warn(
                f"X: numbers such as {X.max():g} are rounding beside 1, which the logarithm adds, "
                "and images are 0 everywhere: multiply them",
                stacklevel=3,
            )
        self.map_ = FeatureMap(
            self.embedding, self.tsne, self.closing_edge, self.perplexity, self.seed_
        ).fit(self.scale_.transform(X))
        self.pixels_ = self.map_.pixels(int(self.resolution))
        self.resolution_ = int(self.resolution)
        return self

    def transform(self, X) -> np.ndarray:
        """Returns the images of X [N, F], [N, resolution, resolution, 3] float32 in [0, 1].

        The channels are mean, minimum and maximum. An image of 224 pixels takes 600 KB: transform
        what does not fit into memory in parts.

        Raises:
          ValueError: X is not what is expected, or its images do not fit.
        """
        check_is_fitted(self)
        X = _plain(X)
        X = validate_data(self, X, dtype=np.float64, reset=False)
        scaled = self.scale_.transform(X).astype(np.float32)
        needed, there = len(X) * self.resolution_**2 * 12, memory.machine_bytes()
        if needed > there:
            raise ValueError(
                f"X: {len(X)} images of {self.resolution_} pixels need {memory.size(needed)} of "
                f"memory, this machine has {memory.size(there)}; transform it in parts"
            )
        tables = images.pixel_tables([self.pixels_], self.resolution_)
        with conventions.usual():
            tables = jax.device_put({name: table[0] for name, table in tables.items()})
        painted = np.empty((len(scaled), self.resolution_, self.resolution_, 3), np.float32)
        for start in range(0, len(scaled), _ROWS):
            rows = scaled[start : start + _ROWS]
            padded = np.pad(rows, ((0, _ROWS - len(rows)), (0, 0)))
            with conventions.usual():
                images_of_rows = np.asarray(_paint(padded, tables, self.resolution_))
            painted[start : start + _ROWS] = images_of_rows[: len(rows)]
        return painted

    def _check_parameters(self) -> None:
        if not checks.is_integer(self.resolution) or self.resolution < 1:
            raise ValueError(
                f"resolution: expected an integer of at least 1, found {shown(self.resolution)}"
            )
        if self.resolution > MOST_PIXELS:
            raise ValueError(
                f"resolution: expected at most {MOST_PIXELS}, found {shown(self.resolution)}"
            )
        perplexity: Any = self.perplexity
        if not checks.is_number(perplexity) or not 0 < perplexity <= LARGEST[float]:
            raise ValueError(f"perplexity: expected above 0, found {shown(perplexity)}")
        if not isinstance(self.closing_edge, bool | np.bool_):
            raise ValueError(f"closing_edge: expected True or False, found {self.closing_edge!r}")
        # What another embedding would not look at shall not be set for nothing.
        for name, default in (("tsne", TSNE), ("perplexity", PERPLEXITY)):
            value = getattr(self, name)
            if self.embedding != "tsne" and value != default:
                raise ValueError(
                    f"{name}: expected {default!r}, as embedding={self.embedding!r} has no use "
                    f"for it, found {value!r}"
                )

    def feature_at(self, row: int, col: int) -> list[str] | list[int]:
        """Returns the features of a pixel: their names, or their numbers if X had none.

        Raises:
          ValueError: row or col is no integer, or outside the image.
        """
        check_is_fitted(self)
        for name, value in (("row", row), ("col", col)):
            if not checks.is_integer(value):
                raise ValueError(f"{name}: expected an integer, found {value!r}")
            if not 0 <= value < self.resolution_:
                raise ValueError(f"{name}: expected 0 to {self.resolution_ - 1}, found {value!r}")
        found = np.flatnonzero((self.pixels_ == (row, col)).all(axis=1))
        names = getattr(self, "feature_names_in_", None)
        return found.tolist() if names is None else names[found].tolist()

    def plot(self):
        """Returns a matplotlib figure of the occupied pixels, coloured by how many share one.

        Raises:
          UserError: matplotlib is not installed.
        """
        check_is_fitted(self)
        try:
            return figures.shared_pixels(self.pixels_, self.resolution_)
        except ImportError:
            raise UserError("plot: needs matplotlib: pip install 'moa-jax[plots]'") from None


def _plain(X: Any) -> Any:
    """Returns a table without sparse columns; raises a ValueError for dates, texts and masks."""
    X = row_names.as_pandas(X)
    checks.check_cells(X)
    for number, text in checks.texts(X):
        raise ValueError(f"X: column {X.columns[number]}: expected numbers, found {text!r}")
    return checks.dense(X)


_paint = jax.jit(images.paint, static_argnames="resolution")
