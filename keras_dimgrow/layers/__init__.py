"""Keras layers: GrowableEmbedding and DimGrowEmbedding search, PlannedEmbedding is trained with what was found.

StoredEmbedding serves it. ChunkedEmbedding gives rows, not fields, their dimensions, while it trains; StoredChunkedEmbedding
serves it, and PartlyChunkedEmbedding has fields of both kinds.
"""

from keras_dimgrow.layers.chunked_embedding import ChunkedEmbedding
from keras_dimgrow.layers.dimgrow_embedding import DimGrowEmbedding
from keras_dimgrow.layers.growable_embedding import GrowableEmbedding
from keras_dimgrow.layers.partly_chunked_embedding import PartlyChunkedEmbedding
from keras_dimgrow.layers.planned_embedding import PlannedEmbedding
from keras_dimgrow.layers.stored_chunks import StoredChunkedEmbedding
from keras_dimgrow.layers.stored_embedding import StoredEmbedding

__all__ = [
    "ChunkedEmbedding",
    "DimGrowEmbedding",
    "GrowableEmbedding",
    "PartlyChunkedEmbedding",
    "PlannedEmbedding",
    "StoredChunkedEmbedding",
    "StoredEmbedding",
]
