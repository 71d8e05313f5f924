"""Keras layers: GrowableEmbedding and DimGrowEmbedding search, PlannedEmbedding serves what was found."""

from keras_dimgrow.layers.dimgrow_embedding import DimGrowEmbedding
from keras_dimgrow.layers.growable_embedding import GrowableEmbedding
from keras_dimgrow.layers.planned_embedding import PlannedEmbedding

__all__ = ["DimGrowEmbedding", "GrowableEmbedding", "PlannedEmbedding"]
