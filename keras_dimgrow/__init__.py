"""keras_dimgrow: finds how many embedding dimensions each categorical field deserves, while the model trains.

DimGrow (arXiv 2505.12683) for Keras 3 on TensorFlow: `search` finds an `EmbeddingPlan`, `retrain` trains a model with
it; `DimGrowEmbedding`, `PlannedEmbedding`, `ChunkedEmbedding` and `ShuffleGate` are layers for models of your own.
"""

import os

os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import keras

if keras.backend.backend() != "tensorflow":
    raise ImportError(
        f"keras_dimgrow needs Keras's TensorFlow backend; Keras runs on {keras.backend.backend()!r}. "
        "Set KERAS_BACKEND=tensorflow before Keras is imported."
    )

from keras_dimgrow.callbacks import DimensionSearch
from keras_dimgrow.chunking import ChunkConfig
from keras_dimgrow.evaluation import Evaluation, evaluate
from keras_dimgrow.fields import Field
from keras_dimgrow.layers import ChunkedEmbedding, DimGrowEmbedding, GrowableEmbedding, PlannedEmbedding
from keras_dimgrow.methods import METHODS, SearchResult
from keras_dimgrow.methods.dimgrow import DimGrowConfig
from keras_dimgrow.methods.dimgrow_paper import DimGrowPaperConfig
from keras_dimgrow.models import (
    DCN,
    DLRM,
    FM,
    IPNN,
    NFM,
    AutoInt,
    DeepFM,
    ModelConfig,
    RankingModel,
    WideDeep,
    build_embedding,
    build_model,
)
from keras_dimgrow.optimizers import GrowableAdam, GrowableSlots, LazyAdam, growable
from keras_dimgrow.plan import EmbeddingPlan, PlannedField
from keras_dimgrow.policy import GrowthConfig
from keras_dimgrow.quantize import StorageComparison, compare_storage, with_storage
from keras_dimgrow.search import retrain, search
from keras_dimgrow.shuffle_gate import GateConfig, ShuffleGate
from keras_dimgrow.steps import choose_batch_size
from keras_dimgrow.training import TrainingConfig, TrainingResult
from keras_dimgrow.transfer import transfer_layer, transfer_model
from keras_dimgrow.variables import GrowableVariable
from keras_dimgrow.vocabulary import grow_vocabulary

__all__ = [
    "DCN",
    "DLRM",
    "FM",
    "IPNN",
    "METHODS",
    "NFM",
    "AutoInt",
    "ChunkConfig",
    "ChunkedEmbedding",
    "DeepFM",
    "DimGrowConfig",
    "DimGrowEmbedding",
    "DimGrowPaperConfig",
    "DimensionSearch",
    "EmbeddingPlan",
    "Evaluation",
    "Field",
    "GateConfig",
    "GrowableAdam",
    "GrowableEmbedding",
    "GrowableSlots",
    "GrowableVariable",
    "GrowthConfig",
    "LazyAdam",
    "ModelConfig",
    "PlannedEmbedding",
    "PlannedField",
    "RankingModel",
    "SearchResult",
    "ShuffleGate",
    "StorageComparison",
    "TrainingConfig",
    "TrainingResult",
    "WideDeep",
    "build_embedding",
    "build_model",
    "choose_batch_size",
    "compare_storage",
    "evaluate",
    "grow_vocabulary",
    "growable",
    "retrain",
    "search",
    "transfer_layer",
    "transfer_model",
    "with_storage",
]
