"""The transforms of this room by class, for whoever reads stored ones."""

from moa_jax.features.factors import ClusterOneHot, FactorScores, PrincipalComponents
from moa_jax.features.rank_gauss import RankGauss
from moa_jax.features.selection import ChosenColumns, VarianceSelection
from moa_jax.features.standard_scale import StandardScale
from moa_jax.features.umap import UmapEmbedding
from moa_jax.features.umap_joint import JointUmapEmbedding

TRANSFORMS = (
    ChosenColumns,
    ClusterOneHot,
    FactorScores,
    JointUmapEmbedding,
    PrincipalComponents,
    RankGauss,
    StandardScale,
    UmapEmbedding,
    VarianceSelection,
)
