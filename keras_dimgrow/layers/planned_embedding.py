"""PlannedEmbedding: embeddings of the dimensions that a plan gives, for retraining and serving."""

from collections.abc import Mapping

import keras
import numpy as np
import tensorflow as tf

from keras_dimgrow import adapters
from keras_dimgrow.layers.inputs import batch_size_of, ids_of_fields
from keras_dimgrow.plan import EmbeddingPlan


@keras.saving.register_keras_serializable("keras_dimgrow")
class PlannedEmbedding(keras.layers.Layer):
    """Embeds fields by an EmbeddingPlan and adapts them to a fixed width.

    Fields of equal dimension share one table (each at its own offset): one gather per distinct dimension. Fields of
    dimension 0 are removed: their ids may be passed and are ignored.

    Args:
        plan: an EmbeddingPlan, or the dict of its `to_dict`.
        adapter_width: d_bb, width of the output.
        adapter: "joint" (one [B, d_bb]) or "per_field" ([B, kept fields, d_bb], in the plan's order).
        stddev: embeddings and adapter start from N(0, stddev^2).
        seed: seed of the initial values.

    Input shape: dict {field name: int [B]}; or list of int [B] or int matrix [B, F], in the order of all fields of the
    plan.
    Output shape: `[B, adapter_width]`, or `[B, kept fields, adapter_width]` per field.
    """

    def __init__(
        self,
        plan: EmbeddingPlan | Mapping,
        adapter_width: int = 64,
        adapter: str = "joint",
        stddev: float = 0.01,
        seed: int | None = None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        adapters.validate_adapter(adapter, adapter_width)
        self.plan = EmbeddingPlan.from_dict(plan) if isinstance(plan, Mapping) else plan
        self.adapter_width = adapter_width
        self.adapter = adapter
        self.stddev = stddev
        self.seed = int(np.random.randint(2**31)) if seed is None else seed
        kept = self.plan.kept_fields
        # Groups of fields of equal dimension: dimension -> indices into `kept`.
        self._groups = {
            dim: [i for i, field in enumerate(kept) if field.dimension == dim]
            for dim in sorted({field.dimension for field in kept})
        }

    @property
    def fields(self):
        """The fields that the layer embeds: those that the plan keeps."""
        return self.plan.kept_fields

    def build(self, input_shape):
        kept = self.plan.kept_fields
        self.tables = {}
        for dim, members in self._groups.items():
            rows = sum(kept[i].vocabulary_size for i in members)
            initializer = keras.initializers.RandomNormal(stddev=self.stddev, seed=self.seed + dim)
            self.tables[str(dim)] = self.add_weight(
                shape=(rows, dim), initializer=initializer, name=f"table_{dim}", autocast=False
            )
            setattr(self, f"table_{dim}", self.tables[str(dim)])  # tf.train.Checkpoint does not look into Keras's dicts
        self.kernel = self.add_weight(
            shape=(self.plan.total_dimensions, self.adapter_width),
            initializer=keras.initializers.RandomNormal(stddev=self.stddev, seed=self.seed),
            name="kernel",
        )

    def call(self, inputs, training=None):
        kept = self.plan.kept_fields
        if isinstance(inputs, Mapping):
            ids = ids_of_fields(inputs, [field.name for field in kept], self.name)
        else:
            everything = ids_of_fields(inputs, [field.name for field in self.plan.fields], self.name)
            ids = [i for i, field in zip(everything, self.plan.fields, strict=True) if field.dimension]
        parts = []
        for dim, members in self._groups.items():
            offsets = np.cumsum([0] + [kept[i].vocabulary_size for i in members[:-1]])
            rows = tf.stack([ids[i] for i in members], axis=1) + tf.constant(offsets, dtype=ids[0].dtype)
            # tf.gather on the variable reads the touched rows only; keras.ops.take would copy the table first.
            embedded = tf.gather(self.tables[str(dim)].value, rows)
            parts.append(tf.reshape(embedded, [-1, len(members) * dim]))
        q = tf.cast(tf.concat(parts, axis=1), self.compute_dtype)
        kernel = tf.cast(self.kernel.value, q.dtype)
        if self.adapter == "joint":
            return adapters.adapt_jointly(q, kernel)
        order = [i for members in self._groups.values() for i in members]
        owners = np.repeat(np.array(order, np.int32), [kept[i].dimension for i in order])
        return adapters.adapt_per_field(q, kernel, tf.constant(owners), len(kept))

    def compute_output_shape(self, input_shape):
        return adapters.adapted_shape(
            batch_size_of(input_shape), self.adapter, len(self.plan.kept_fields), self.adapter_width
        )

    def get_config(self):
        config = {
            "plan": self.plan.to_dict(),
            "adapter_width": self.adapter_width,
            "adapter": self.adapter,
            "stddev": self.stddev,
            "seed": self.seed,
        }
        return super().get_config() | config
