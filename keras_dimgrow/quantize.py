"""with_storage: a trained model as it is served, its tables in float32, float16 or int8; and what this costs in quality."""

import dataclasses

import keras
import tensorflow as tf

from keras_dimgrow.clones import clone_with
from keras_dimgrow.evaluation import Evaluation, evaluate
from keras_dimgrow.layers import (
    ChunkedEmbedding,
    PartlyChunkedEmbedding,
    PlannedEmbedding,
    StoredChunkedEmbedding,
    StoredEmbedding,
)
from keras_dimgrow.layers.stored_embedding import validate_storage
from keras_dimgrow.storage import pad_dimensions

_REFUSAL = (
    "with_storage takes a RankingModel, functional or sequential model with a PlannedEmbedding or ChunkedEmbedding, as retrain "
    "gives; received {model}. For the model of a search, call transfer_model first."
)


def with_storage(model: keras.Model, storage: str = "float32") -> keras.Model:
    """A model like `model` that only predicts: smaller and faster, for `keras.export.ExportArchive` or a .keras file.

    Each PlannedEmbedding becomes a `StoredEmbedding`. A ChunkedEmbedding becomes a `StoredChunkedEmbedding`, which has the live
    chunks, stored as rows are, and the index, at most 4 bytes for each chunk of an unpruned row. All other weights are copied;
    `model` is left as it is.

    | storage | bytes of a row of d dimensions | predictions |
    |---|---|---|
    | "float32" | 4 d | those of `model`, but for the order of sums |
    | "float16" | 2 d | values rounded to 11 bits |
    | "int8" | d + 1, the scale of the row included; 2 for d = 1 | values rounded to 1/127 of the row's largest |

    No custom operation is needed to run it. Tables may be padded, by a tenth of the plan's parameters in all, so that fewer
    have dimensions of their own.

    Args:
        model: a `RankingModel`, a functional or a sequential model with a `PlannedEmbedding`, `ChunkedEmbedding` or
            `PartlyChunkedEmbedding`; may be nested.
        storage: "float32", "float16" or "int8".

    Raises:
        ValueError: for another storage or kind of model, or if a table holds a value that is not finite or too large for
            the storage. The model that is returned raises it when it is trained.

    Example:
        >>> from keras_dimgrow import EmbeddingPlan, PlannedField
        >>> plan = EmbeddingPlan((PlannedField(name="city", vocabulary_size=50, dimension=3),))
        >>> model = keras.Sequential([keras.Input((1,), dtype="int32"), PlannedEmbedding(plan, 8, seed=0)])
        >>> tuple(with_storage(model, "int8").layers[0].tables["3"].shape)
        (50, 4)
    """
    validate_storage(storage)

    def store(layer: keras.layers.Layer) -> keras.layers.Layer:
        if type(layer) is PartlyChunkedEmbedding:
            parts = store(layer.whole), store(layer.chunked)
            return PartlyChunkedEmbedding(*parts, layer.names, dtype=layer.dtype_policy, name=layer.name)
        if type(layer) is ChunkedEmbedding:
            return StoredChunkedEmbedding.of(layer, storage)
        if type(layer) is not PlannedEmbedding:  # a subclass may compute anything
            raise ValueError(_REFUSAL.format(model=f"{layer.name!r}, a {type(layer).__name__}"))
        tables, kernels = layer.tables_by_field(), layer.kernels_by_field()
        stored = StoredEmbedding(
            pad_dimensions(layer.plan),
            layer.adapter_width,
            layer.adapter,
            storage,
            layer.check_ids,
            layer.keep_removed,
            dtype=layer.dtype_policy,
            name=layer.name,
        )
        stored.build(None)
        stored.assign_by_field(tables, kernels)
        return stored

    kinds = (PlannedEmbedding, ChunkedEmbedding, PartlyChunkedEmbedding)
    stored = clone_with(model, kinds, store, _REFUSAL)
    stored.trainable = False
    return stored


@dataclasses.dataclass(frozen=True)
class StorageComparison:
    """A model and its stored form on the same held-out rows.

    Attributes:
        reference, stored: how well each predicts.
    """

    reference: Evaluation
    stored: Evaluation

    @property
    def auc_difference(self) -> float:
        """AUC of the stored form minus that of the model: negative where storage costs quality."""
        return self.stored.auc - self.reference.auc

    @property
    def log_loss_difference(self) -> float:
        """Log loss of the stored form minus that of the model, nats a row: positive where storage costs quality."""
        return self.stored.log_loss - self.reference.log_loss


def compare_storage(model: keras.Model, stored: keras.Model, batches: tf.data.Dataset) -> StorageComparison:
    """Evaluates `model` and its `with_storage(model, ...)` on held-out batches of (inputs, labels [B]).

    Example:
        >>> from keras_dimgrow import EmbeddingPlan, PlannedField, ModelConfig, build_model
        >>> plan = EmbeddingPlan((PlannedField(name="city", vocabulary_size=4, dimension=3),))
        >>> model = build_model(PlannedEmbedding(plan, seed=0), ModelConfig(), seed=0)
        >>> data = tf.data.Dataset.from_tensor_slices(({"city": [0, 1, 2, 3]}, [0, 1, 0, 1])).batch(2)
        >>> compare_storage(model, with_storage(model, "float32"), data).auc_difference
        0.0
    """
    return StorageComparison(evaluate(model, batches), evaluate(stored, batches))
