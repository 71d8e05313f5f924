"""DimGrowEmbedding: embeddings that grow and shrink while the model trains (arXiv 2505.12683, section 4.2)."""

import dataclasses
from collections.abc import Mapping, Sequence

import keras
import numpy as np
import tensorflow as tf

from keras_dimgrow import adapters
from keras_dimgrow.fields import Field
from keras_dimgrow.layers.inputs import batch_size_of, ids_of_fields
from keras_dimgrow.penalty import penalty_weights
from keras_dimgrow.plan import EmbeddingPlan
from keras_dimgrow.policy import STATE_COLUMNS
from keras_dimgrow.shuffle import SHUFFLES, add_shuffle_seed, next_seed
from keras_dimgrow.shuffle_gate import GateConfig, gate_values, mix_with_shuffled
from keras_dimgrow.variables import GrowableVariable


@keras.saving.register_keras_serializable("keras_dimgrow")
class DimGrowEmbedding(keras.layers.Layer):
    """Embeds fields with as many dimensions as their shuffle gates ask for, and adapts them to a fixed width.

    Each field starts with one dimension (or its min_dim). The `DimensionSearch` callback calls `grow`, `drop` and
    `revive`; no growth retraces the model's functions. Dropped dimensions are masked, not freed, and are the first to
    be used again. All state, that of the growth policy included, is in the layer's variables.

    Args:
        fields: the fields, in the order of the inputs.
        adapter_width: d_bb, width of the output.
        adapter: "joint" (the paper: one [B, d_bb]) or "per_field" ([B, F, d_bb]).
        gate: a GateConfig; the default has the paper's temperature.
        stddev: new columns and their adapter rows are drawn from N(0, stddev^2).
        seed: seed of initial values, new columns and shuffles.

    Input shape: dict {field name: int [B]}, list of int [B], or int matrix [B, F].
    Output shape: `[B, adapter_width]`, or `[B, F, adapter_width]` per field.
    """

    def __init__(
        self,
        fields: Sequence[Field],
        adapter_width: int = 64,
        adapter: str = "joint",
        gate: GateConfig | None = None,
        stddev: float = 0.01,
        seed: int | None = None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        adapters.validate_adapter(adapter, adapter_width)
        self.fields = tuple(Field(**f) if isinstance(f, Mapping) else f for f in fields)
        EmbeddingPlan.uniform(self.fields, 1)  # rejects no fields and repeated names
        self.adapter_width = adapter_width
        self.adapter = adapter
        self.gate = gate or GateConfig()
        self.stddev = stddev
        self.seed = int(np.random.randint(2**31)) if seed is None else seed
        # Dynamic shapes would make XLA compile again after every growth.
        self.supports_jit = False

    def build(self, input_shape):
        dims = [max(1, field.min_dim) for field in self.fields]

        def add(name, shape, axes, initializer, trainable=True):
            variable = GrowableVariable(
                initializer, shape, axes, dtype=self.variable_dtype, trainable=trainable, name=name
            )
            self._track_variable(variable)
            return variable

        def normal(index):
            return keras.initializers.RandomNormal(stddev=self.stddev, seed=self.seed + index)

        self.tables = [
            add(f"table_{index}", (field.vocabulary_size, dim), (1,), normal(index))
            for index, (field, dim) in enumerate(zip(self.fields, dims, strict=True))
        ]
        for table in self.tables:
            setattr(self, table.name, table)  # tf.train.Checkpoint does not look into Keras's lists
        self.kernel = add("kernel", (sum(dims), self.adapter_width), (0,), normal(len(dims)))
        self.theta = add("theta", (sum(dims),), (0,), "zeros")
        self.mask = add("mask", (sum(dims),), (0,), "ones", trainable=False)
        weights = self._penalty_weights([np.ones(dim) for dim in dims])
        self.penalty_weights = add(
            "penalty_weights", weights.shape, (0,), lambda shape, dtype: tf.constant(weights, dtype), trainable=False
        )
        self.policy_state = self.add_weight(
            shape=(len(dims), STATE_COLUMNS), initializer="zeros", dtype="int32", trainable=False, name="policy_state"
        )
        self.shuffle_seed = add_shuffle_seed(self, self.seed)

    def call(self, inputs, training=None):
        ids = ids_of_fields(inputs, [field.name for field in self.fields], self.name)
        # tf.gather on the variable reads the touched rows only; keras.ops.take would copy the table first.
        rows = [tf.gather(table.value, i) for table, i in zip(self.tables, ids, strict=True)]
        q = tf.cast(tf.concat(rows, axis=1), self.compute_dtype)
        mask = tf.cast(self.mask.value, q.dtype)
        gates = gate_values(self.theta.value, self.gate.temperature)
        if training:
            self.add_loss(self.gate.penalty * tf.reduce_sum(self.penalty_weights.value * gates))
            shuffled = SHUFFLES[self.gate.shuffle](q, next_seed(self.shuffle_seed))
            q = mix_with_shuffled(q, shuffled, tf.cast(gates, q.dtype)) * mask
        else:
            q *= tf.cast(gates, q.dtype) * mask
        kernel = tf.cast(self.kernel.value, q.dtype)
        if self.adapter == "joint":
            return adapters.adapt_jointly(q, kernel)
        widths = tf.stack([tf.shape(row)[1] for row in rows])
        return adapters.adapt_per_field(q, kernel, tf.repeat(tf.range(len(rows)), widths), len(rows))

    # What follows is eager: the callback's side.

    @property
    def allocated_dims(self) -> list[int]:
        """d_Ai, the columns that each field's table has."""
        return [int(table.shape[1]) for table in self.tables]

    def _split(self, flat) -> list[np.ndarray]:
        return np.split(np.asarray(flat), np.cumsum(self.allocated_dims)[:-1])

    def masks(self) -> list[np.ndarray]:
        """Per field, 1 for an allocated dimension in use and 0 for a dropped one."""
        return self._split(self.mask.numpy())

    def gates(self) -> list[np.ndarray]:
        """Per field, the gate of each dimension in use."""
        values = self._split(gate_values(self.theta.value, self.gate.temperature))
        return [gates[mask > 0] for gates, mask in zip(values, self.masks(), strict=True)]

    def used_dims(self) -> list[int]:
        """d_i, the dimensions in use of each field."""
        return [int(mask.sum()) for mask in self.masks()]

    def plan(self) -> EmbeddingPlan:
        """The plan that the gates spell now: d_i* = |{k: g_ik > 0.5}|, at least the field's min_dim."""
        dims = {
            field.name: max(field.min_dim, int((gates > 0.5).sum()))
            for field, gates in zip(self.fields, self.gates(), strict=True)
        }
        return EmbeddingPlan.from_dimensions(self.fields, dims)

    def grow(self, index: int, optimizer=None) -> None:
        """Takes one more dimension of field `index` into use: a dropped one if there is one, else a new column.

        `optimizer`, one with `GrowableSlots`, grows its slots at the same places; None before the optimizer is built.
        """
        dims = self.allocated_dims
        masks = np.split(self.mask.numpy(), np.cumsum(dims)[:-1])
        dropped = np.flatnonzero(masks[index] == 0)
        if len(dropped):
            position = sum(dims[:index]) + int(dropped[0])
            masks[index][dropped[0]] = 1.0
            self.theta.write_slice(0, position, 0.0)
            if optimizer is not None:
                optimizer.reset_slots(self.theta, 0, position, 0.0)
        else:
            masks[index] = np.append(masks[index], np.float32(1.0))
            self._insert_column(index, dims[index], sum(dims[: index + 1]), optimizer)
        self._assign_masks(masks)

    def _insert_column(self, index: int, column: int, position: int, optimizer) -> None:
        """A new `column` of table `index`, and what belongs to it at `position` of the fields' concatenation."""
        # Not self.seed: workers that drew their own have the first one's in this variable, and columns must be equal.
        base = int(self.shuffle_seed.numpy()[0])
        seed = [base, index * 65536 + column]
        shape = [self.fields[index].vocabulary_size, 1]
        values = tf.random.stateless_normal(shape, seed, stddev=self.stddev)
        row = tf.random.stateless_normal([1, self.adapter_width], [base + 1, seed[1]], stddev=self.stddev)
        for variable, axis, at, new in (
            (self.tables[index], 1, column, values),
            (self.kernel, 0, position, row),
            (self.theta, 0, position, tf.zeros([1])),
        ):
            variable.insert(axis, at, new)
            if optimizer is not None:
                optimizer.insert_slots(variable, axis, at, new)

    def drop(self, index: int) -> None:
        """Takes the dimension of field `index` with the smallest gate out of use, by mask."""
        masks = self.masks()
        theta = np.where(masks[index] > 0, self._split(self.theta.numpy())[index], np.inf)
        masks[index][np.argmin(theta)] = 0.0
        self._assign_masks(masks)

    def _assign_masks(self, masks: Sequence[np.ndarray]) -> None:
        self.mask.assign(np.concatenate(masks))
        self.penalty_weights.assign(self._penalty_weights(masks))

    def _penalty_weights(self, masks: Sequence[np.ndarray]) -> np.ndarray:
        return penalty_weights(masks, [field.vocabulary_size for field in self.fields], self.gate.cost_exponent)

    def compute_output_shape(self, input_shape):
        return adapters.adapted_shape(batch_size_of(input_shape), self.adapter, len(self.fields), self.adapter_width)

    def get_config(self):
        config = {
            "fields": [dataclasses.asdict(field) for field in self.fields],
            "adapter_width": self.adapter_width,
            "adapter": self.adapter,
            "gate": keras.saving.serialize_keras_object(self.gate),
            "stddev": self.stddev,
            "seed": self.seed,
        }
        return super().get_config() | config

    @classmethod
    def from_config(cls, config):
        return cls(**(config | {"gate": keras.saving.deserialize_keras_object(config["gate"])}))
