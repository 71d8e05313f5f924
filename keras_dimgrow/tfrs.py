"""Plans and trained tables inside TensorFlow Recommenders models, which are Keras 2 (extra: tfrs).

A `tfrs.Model` cannot train Keras 3 layers (docs/guides/tfrs.md says what fails). Search and retrain with Keras 3, then
hand over what was found: `PlannedTables(plan, ...).load(tables_from(embedding), kernels_from(embedding))`.
"""

import importlib.util
import os
from collections.abc import Iterable, Mapping

import numpy as np
import tensorflow as tf

from keras_dimgrow import adapters
from keras_dimgrow.layers import PlannedEmbedding
from keras_dimgrow.layers.inputs import embed, read_ids
from keras_dimgrow.plan import EmbeddingPlan


def _require_tfrs() -> None:
    missing = [name for name in ("tensorflow_recommenders", "tf_keras") if importlib.util.find_spec(name) is None]
    if missing:
        raise ImportError(
            f"keras_dimgrow.tfrs needs {' and '.join(missing)}, not installed here. "
            "Install the extra: pip install keras-dimgrow[tfrs]"
        )
    cure = (
        'Put `import os; os.environ["TF_USE_LEGACY_KERAS"] = "1"` at the top of the program, above every other import '
        "(in a notebook: in the first cell of a fresh kernel). `import keras` stays Keras 3."
    )
    value = os.environ.get("TF_USE_LEGACY_KERAS")
    if value not in ("1", "true", "True"):  # what TensorFlow accepts
        raise RuntimeError(f"TFRS needs Keras 2 as tf.keras; received TF_USE_LEGACY_KERAS={value!r}. {cure}")
    import tf_keras

    if tf.keras.layers.Layer is not tf_keras.layers.Layer:
        raise RuntimeError(
            "TF_USE_LEGACY_KERAS=1 was set too late: this process had used tf.keras before, which stays Keras 3. "
            f"Start a new process. {cure}"
        )


_require_tfrs()

import tf_keras  # noqa: E402 - only where the checks above have passed


@tf_keras.utils.register_keras_serializable("keras_dimgrow")
class PlannedTables(tf_keras.layers.Layer):
    """Keras 2 layer that embeds fields by an EmbeddingPlan, for a `tfrs.Model` or one of its towers.

    Each field's table is a `tf_keras.layers.Embedding`, `layer.tables[name]`, to freeze or look at: the same layer for
    fields that share a table. Fields of dimension 0 are removed: their ids may be passed and are ignored, as is any other
    feature.

    Args:
        plan: an EmbeddingPlan, or the dict of its `to_dict`.
        adapter_width: width of the output; None (the default) for no adapter.
        adapter: "joint" (the paper: h = Q W_adapt) or "per_field" (h_i = e_i W_i).
        fields: names of the fields to embed, those of one tower for instance; None for all fields of the plan.
        seed: seed of the initial values: uniform for tables and Glorot for the adapter, as is usual in Keras 2.

    Input shape: dict {field name: int [B] or [B, 1]}; int [B, L] for a field with a combiner.
    Output shape: `[B, sum of dimensions]` in the plan's order; `[B, adapter_width]` with the joint adapter,
    `[B, kept fields, adapter_width]` with the one per field.

    Raises:
        ValueError: if a name in `fields` is not in the plan, the plan removed all of them, or has fields in chunks.
    """

    def __init__(
        self,
        plan: EmbeddingPlan | Mapping,
        adapter_width: int | None = None,
        adapter: str = "joint",
        fields: Iterable[str] | None = None,
        seed: int | None = None,
        **kwargs,
    ):
        # Without autocast: weights of values are cast once, after they were combined.
        super().__init__(**({"autocast": False} | kwargs))
        adapters.validate_adapter(adapter, 1 if adapter_width is None else adapter_width)
        plan = EmbeddingPlan.from_dict(plan) if isinstance(plan, Mapping) else plan
        if plan.chunks is not None:
            raise ValueError(
                f"{self.name}: tables for Keras 2 have no chunks; received a plan with "
                f"{[field.name for field in plan.chunked_fields]} in chunks. Train it with retrain, or pass a plan by fields."
            )
        self.plan = plan if fields is None else _part_of(plan, tuple(fields), self.name)
        self.adapter_width = adapter_width
        self.adapter = adapter
        self.seed = int(np.random.randint(2**31)) if seed is None else seed
        layers = {
            field.table_key: tf_keras.layers.Embedding(
                field.vocabulary_size,
                field.dimension,
                embeddings_initializer=tf_keras.initializers.RandomUniform(-0.05, 0.05, seed=self.seed + index),
                dtype=self.dtype_policy.variable_dtype,  # values are combined before they are cast
                name=f"table_{index}",  # a field's name may be none that TensorFlow takes for a scope
            )
            for index, field in enumerate(self.plan.tables, start=1)
            if field.dimension
        }
        self.tables = {field.name: layers[field.table_key] for field in self.plan.kept_fields}

    def build(self, input_shape=None):
        for table in dict.fromkeys(self.tables.values()):
            with tf.name_scope(table.name):
                table.build(None)
        if self.adapter_width is not None:
            shape = (sum(field.dimension for field in self.plan.kept_fields), self.adapter_width)
            initializer = tf_keras.initializers.GlorotUniform(seed=self.seed)
            self.kernel = self.add_weight(name="kernel", shape=shape, initializer=initializer)
        super().build(input_shape)

    def call(self, inputs):
        kept = self.plan.kept_fields
        ids = read_ids(inputs, kept, self.name)
        rows = [
            embed(self.tables[field.name].embeddings, field_ids, field)
            for field, field_ids in zip(kept, ids, strict=True)
        ]
        q = tf.cast(tf.concat(rows, axis=1), self.compute_dtype)
        if self.adapter_width is None:
            return q
        kernel = tf.cast(self.kernel, q.dtype)
        if self.adapter == "joint":
            return adapters.adapt_jointly(q, kernel)
        dims = [field.dimension for field in self.plan.kept_fields]
        return adapters.adapt_per_field(q, kernel, tf.repeat(tf.range(len(dims)), dims), len(dims))

    def load(self, tables: Mapping[str, np.ndarray], kernels: Mapping[str, np.ndarray] | None = None):
        """Takes trained values over, and returns the layer.

        Args:
            tables: field name -> [V, d], as of `tables_from`. Fields that the layer does not embed are ignored.
            kernels: field name -> [d, adapter_width], as of `kernels_from`; None leaves the adapter as it is.

        Raises:
            ValueError: if a value is missing or its shape is not the layer's. Nothing is taken over then.
        """
        kept = self.plan.kept_fields
        values = [self._value(tables, "table", f.name, (f.vocabulary_size, f.dimension)) for f in kept]
        if kernels is not None:
            rows = [self._value(kernels, "kernel", f.name, (f.dimension, self.adapter_width)) for f in kept]
        if not self.built:
            with tf.name_scope(self.name):
                self.build()
        for table, value in zip(self.tables.values(), values, strict=True):
            table.set_weights([value])  # fields of one shared table bring the same value
        if kernels is not None:
            self.kernel.assign(np.concatenate(rows))
        return self

    def _value(self, values: Mapping[str, np.ndarray], what: str, name: str, shape: tuple) -> np.ndarray:
        received = np.shape(values[name]) if name in values else "none"
        if received != shape:
            raise ValueError(
                f"{self.name}: the {what} of field {name!r} must have shape {shape}; received {received}. "
                f"Give the layer the plan and the adapter_width that the {what}s were trained with."
            )
        return values[name]

    def get_config(self):
        keys = ("adapter_width", "adapter", "seed")
        return super().get_config() | {"plan": self.plan.to_dict()} | {key: getattr(self, key) for key in keys}


def _part_of(plan: EmbeddingPlan, names: tuple[str, ...], name_of_layer: str) -> EmbeddingPlan:
    fields = tuple(field for field in plan.fields if field.name in names)
    if set(names) - set(plan.dimensions) or not any(field.dimension for field in fields):
        raise ValueError(
            f"{name_of_layer}: `fields` must be in the plan and keep a dimension; received {list(names)}, the plan has "
            f"{plan.dimensions}. Search with min_dim=1 for a field that a tower cannot do without."
        )
    return EmbeddingPlan(fields)


def tables_from(embedding: PlannedEmbedding) -> dict[str, np.ndarray]:
    """The trained table [V, d] of each field that a retrained model's PlannedEmbedding keeps.

    Raises:
        ValueError: if `embedding` is no PlannedEmbedding, or has no values yet.
    """
    return _planned(embedding).tables_by_field()


def kernels_from(embedding: PlannedEmbedding) -> dict[str, np.ndarray]:
    """The adapter's rows W_i [d, adapter_width] of each field; raises as `tables_from`."""
    return _planned(embedding).kernels_by_field()


def _planned(embedding: PlannedEmbedding) -> PlannedEmbedding:
    if not isinstance(embedding, PlannedEmbedding):
        raise ValueError(
            f"Tables come from a PlannedEmbedding; received a {type(embedding).__name__}. "
            "Retrain with the plan that was found: retrain(result.plan, ...).model.embedding."
        )
    return embedding
