"""DimGrowEmbedding: embeddings that grow and shrink while the model trains (arXiv 2505.12683, section 4.2)."""

import dataclasses
from collections.abc import Mapping, Sequence

import keras
import numpy as np
import tensorflow as tf

from keras_dimgrow import adapters
from keras_dimgrow.fields import Field, tables_of
from keras_dimgrow.layers.inputs import batch_size_of, embed, read_ids
from keras_dimgrow.penalty import penalty_weights
from keras_dimgrow.plan import EmbeddingPlan
from keras_dimgrow.policy import STATE_COLUMNS
from keras_dimgrow.shuffle import SHUFFLES, add_shuffle_seed, next_seed
from keras_dimgrow.shuffle_gate import GateConfig, gate_values, mix_with_shuffled
from keras_dimgrow.variables import GrowableVariable


@keras.saving.register_keras_serializable("keras_dimgrow")
class DimGrowEmbedding(keras.layers.Layer):
    """Embeds fields with as many dimensions as their shuffle gates ask for, and adapts them to a fixed width.

    Each field starts with one dimension (or its min_dim). The `DimensionSearch` callback calls `grow` and `drop`; no
    growth retraces the model's functions. Dropped dimensions are masked, not freed, and are the first to be used again.
    All state, that of the growth policy included, is in the layer's variables.

    What is searched is the dimension of a table. Fields that share one (`Field.table`) have its dimensions and gates in
    common, but shuffles and adapter rows of their own. `searched_tables`, `tables`, `gates()`, `masks()`, `used_dims()`
    and `allocated_dims` have one entry a table, in the order of the tables' first fields; without shared tables that is
    one a field. `table_of` has the position of each field's table.

    Args:
        fields: the fields, in the order of the inputs.
        adapter_width: d_bb, width of the output.
        adapter: "joint" (the paper: one [B, d_bb]) or "per_field" ([B, F, d_bb]).
        gate: a GateConfig; the default has the paper's temperature.
        stddev: new columns and their adapter rows are drawn from N(0, stddev^2).
        seed: seed of initial values, new columns and shuffles.
        check_ids: whether traced functions, too, raise an error for ids outside their vocabulary, at the cost of a look
            at every id. Eager calls always do.

    Input shape: dict {field name: int [B]}, list of int [B], or int matrix [B, F]; int [B, L], padded with the field's
    missing_id, for a field with a combiner.
    Output shape: `[B, adapter_width]`, or `[B, F, adapter_width]` per field.

    Raises:
        ValueError: for no fields, repeated names, fields of one table that differ, or ids that do not fit (see `Field`).

    Example:
        >>> fields = [Field(name="user", vocabulary_size=1000), Field(name="city", vocabulary_size=50)]
        >>> layer = DimGrowEmbedding(fields, adapter_width=8, seed=0)
        >>> layer({"user": np.array([3, 999]), "city": np.array([0, 49])}).shape
        TensorShape([2, 8])
        >>> layer.grow(0)
        >>> layer.used_dims()
        [2, 1]
    """

    def __init__(
        self,
        fields: Sequence[Field],
        adapter_width: int = 64,
        adapter: str = "joint",
        gate: GateConfig | None = None,
        stddev: float = 0.01,
        seed: int | None = None,
        check_ids: bool = False,
        **kwargs,
    ):
        # Without autocast: ids are integers, and weights of values are cast once, after they were combined.
        super().__init__(autocast=False, **kwargs)
        adapters.validate_adapter(adapter, adapter_width)
        self.fields = tuple(Field(**f) if isinstance(f, Mapping) else f for f in fields)
        self.searched_tables = tables_of(self.fields)
        self.adapter_width = adapter_width
        self.adapter = adapter
        self.gate = gate or GateConfig()
        self.stddev = stddev
        self.seed = int(np.random.randint(2**31)) if seed is None else seed
        self.check_ids = check_ids
        keys = [table.table_key for table in self.searched_tables]
        self.table_of = [keys.index(field.table_key) for field in self.fields]
        self._is_searched = [table.is_searched for table in self.searched_tables]
        # Dynamic shapes would make XLA compile again after every growth.
        self.supports_jit = False

    def build(self, input_shape):
        dims = [max(1, table.min_dim) for table in self.searched_tables]
        num_rows = sum(dims[table] for table in self.table_of)

        def add(name, shape, axes, initializer, trainable=True):
            variable = GrowableVariable(
                initializer, shape, axes, dtype=self.variable_dtype, trainable=trainable, name=name
            )
            self._track_variable(variable)
            return variable

        def normal(index):
            return keras.initializers.RandomNormal(stddev=self.stddev, seed=self.seed + index)

        self.tables = [
            add(f"table_{index}", (table.vocabulary_size, dim), (1,), normal(index))
            for index, (table, dim) in enumerate(zip(self.searched_tables, dims, strict=True))
        ]
        for table in self.tables:
            setattr(self, table.name, table)  # tf.train.Checkpoint does not look into Keras's lists
        self.kernel = add("kernel", (num_rows, self.adapter_width), (0,), normal(len(dims)))
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
        ids = read_ids(inputs, self.fields, self.name, self.check_ids)
        rows = [
            embed(self.tables[table].value, field_ids, field)
            for table, field_ids, field in zip(self.table_of, ids, self.fields, strict=True)
        ]
        q = tf.cast(tf.concat(rows, axis=1), self.compute_dtype)
        widths = tf.stack([tf.shape(row)[1] for row in rows])
        gates = self.all_gates()
        gates_of_q, mask_of_q = self._by_column(gates, widths), self._by_column(self.mask.value, widths)
        # Masks, and gates in inference, scale the few rows of the adapter rather than all of Q.
        if training:
            self.add_loss(self.gate.penalty * tf.reduce_sum(self.penalty_weights.value * gates))
            shuffled = SHUFFLES[self.gate.shuffle](q, next_seed(self.shuffle_seed))
            q = mix_with_shuffled(q, shuffled, tf.cast(gates_of_q, q.dtype))
            scale = mask_of_q
        else:
            scale = gates_of_q * mask_of_q
        kernel = tf.cast(self.kernel.value * scale[:, tf.newaxis], q.dtype)
        if self.adapter == "joint":
            return adapters.adapt_jointly(q, kernel)
        return adapters.adapt_per_field(q, kernel, tf.repeat(tf.range(len(rows)), widths), len(rows))

    def all_gates(self) -> tf.Tensor:
        """g of each allocated column, tables concatenated, [sum of allocated dims]; 1 where nothing is searched."""
        gates = gate_values(self.theta.value, self.gate.temperature)
        if all(self._is_searched):
            return gates
        widths = tf.stack([tf.shape(table.value)[1] for table in self.tables])
        return tf.where(tf.repeat(self._is_searched, widths), gates, 1.0)

    def _by_column(self, values: tf.Tensor, widths: tf.Tensor) -> tf.Tensor:
        """`values` of the tables' columns for the columns of Q, whose fields have `widths`: those of one table repeat."""
        if len(self.tables) == len(self.fields):
            return values
        owners = tf.repeat(tf.range(len(self.fields)), widths)
        firsts = [self.table_of.index(table) for table in range(len(self.tables))]
        starts_of_tables = tf.cumsum(tf.gather(widths, firsts), exclusive=True)
        shifts = tf.gather(starts_of_tables, self.table_of) - tf.cumsum(widths, exclusive=True)
        return tf.gather(values, tf.range(tf.reduce_sum(widths)) + tf.gather(shifts, owners))

    # What follows is eager: the callback's side.

    @property
    def allocated_dims(self) -> list[int]:
        """d_Ai, the columns that each table has."""
        return [int(table.shape[1]) for table in self.tables]

    def _split(self, flat) -> list[np.ndarray]:
        return np.split(np.asarray(flat), np.cumsum(self.allocated_dims)[:-1])

    def masks(self) -> list[np.ndarray]:
        """Per table, 1 for an allocated dimension in use and 0 for a dropped one."""
        return self._split(self.mask.numpy())

    def gates(self) -> list[np.ndarray]:
        """Per table, the gate of each dimension in use; 1 where nothing is searched."""
        return [gates[mask > 0] for gates, mask in zip(self._split(self.all_gates()), self.masks(), strict=True)]

    def used_dims(self) -> list[int]:
        """d_i, the dimensions in use of each table."""
        return [int(mask.sum()) for mask in self.masks()]

    def dimensions(self) -> dict[str, int]:
        """Field name -> dimensions in use."""
        dims = self.used_dims()
        return {field.name: dims[table] for field, table in zip(self.fields, self.table_of, strict=True)}

    def plan(self) -> EmbeddingPlan:
        """The plan that the gates spell now: d_i* = |{k: g_ik > 0.5}|, at least the field's min_dim."""
        dims = [
            max(table.min_dim, int((gates > 0.5).sum()))
            for table, gates in zip(self.searched_tables, self.gates(), strict=True)
        ]
        by_name = {field.name: dims[table] for field, table in zip(self.fields, self.table_of, strict=True)}
        return EmbeddingPlan.from_dimensions(self.fields, by_name)

    def surviving_columns(self) -> list[np.ndarray]:
        """Per table, the positions of the columns that `plan()` counts: those in use with the highest gates."""
        dims = self.plan().dimensions
        columns = []
        for table, gates, mask in zip(self.searched_tables, self._split(self.all_gates()), self.masks(), strict=True):
            in_use = np.flatnonzero(mask)
            best = in_use[np.argsort(-gates[in_use], kind="stable")]
            columns.append(np.sort(best[: dims[table.name]]))
        return columns

    def settle(self) -> None:
        """Takes the dimensions that `plan()` leaves out out of use: the model is then that of its plan."""
        masks = [np.zeros_like(mask) for mask in self.masks()]
        for mask, columns in zip(masks, self.surviving_columns(), strict=True):
            mask[columns] = 1.0
        self._assign_masks(masks)

    def grow(self, index: int | Sequence[int], optimizer=None) -> None:
        """Takes one more dimension of a table, or of each of several, into use: a dropped one if there is one.

        Args:
            index: position of the table in `searched_tables`, or distinct positions.
            optimizer: one with `GrowableSlots`, which grows at the same places; None before the optimizer is built.
        """
        dims, masks, widened = self.allocated_dims, self.masks(), []
        for i in sorted([index] if isinstance(index, int | np.integer) else index):
            dropped = np.flatnonzero(masks[i] == 0)
            if len(dropped):
                masks[i][dropped[0]] = 1.0
                self._reset_gate(sum(dims[:i]) + int(dropped[0]), optimizer)
            else:
                masks[i] = np.append(masks[i], np.float32(1.0))
                widened.append(i)
        if widened:
            self._insert_columns(widened, optimizer)
        self._assign_masks(masks)

    def _reset_gate(self, position: int, optimizer) -> None:
        self.theta.write_slice(0, position, 0.0)
        if optimizer is not None:
            optimizer.reset_slots(self.theta, 0, position, 0.0)

    def _insert_columns(self, widened: Sequence[int], optimizer) -> None:
        """A new last column for each of the tables `widened`, and what belongs to it in gates and adapter."""
        dims = self.allocated_dims
        # From a weight, not from the configuration: it is what checkpoints restore and what all replicas agree on.
        seed = int(self.shuffle_seed.numpy()[0])

        def insert(variable, axis, position, values):
            variable.insert(axis, position, values)
            if optimizer is not None:
                optimizer.insert_slots(variable, axis, position, values)

        for i in widened:
            shape = [self.searched_tables[i].vocabulary_size, 1]
            values = tf.random.stateless_normal(shape, [seed, i * 65536 + dims[i]], stddev=self.stddev)
            insert(self.tables[i], 1, dims[i], values)
        insert(self.theta, 0, [sum(dims[: i + 1]) for i in widened], tf.zeros([len(widened)]))
        ends_in_q = np.cumsum([dims[table] for table in self.table_of])
        owners = [(field, table) for field, table in enumerate(self.table_of) if table in widened]
        rows = [
            tf.random.stateless_normal([1, self.adapter_width], [seed + 1, f * 65536 + dims[t]], stddev=self.stddev)
            for f, t in owners
        ]
        insert(self.kernel, 0, [int(ends_in_q[field]) for field, _ in owners], tf.concat(rows, 0))

    def drop(self, index: int) -> None:
        """Takes the dimension of table `index` with the smallest gate out of use, by mask."""
        masks = self.masks()
        theta = np.where(masks[index] > 0, self._split(self.theta.numpy())[index], np.inf)
        masks[index][np.argmin(theta)] = 0.0
        self._assign_masks(masks)

    def _assign_masks(self, masks: Sequence[np.ndarray]) -> None:
        self.mask.assign(np.concatenate(masks))
        self.penalty_weights.assign(self._penalty_weights(masks))

    def _penalty_weights(self, masks: Sequence[np.ndarray]) -> np.ndarray:
        """Weights of the searched tables' gates; 0 where nothing is searched."""
        searched = [
            (mask, table.vocabulary_size)
            for mask, table in zip(masks, self.searched_tables, strict=True)
            if table.is_searched
        ]
        if len(searched) == len(masks):
            return penalty_weights(masks, [size for _, size in searched], self.gate.cost_exponent)
        weights = np.zeros(sum(len(mask) for mask in masks), np.float32)
        if searched:
            is_searched = np.repeat(self._is_searched, [len(mask) for mask in masks])
            in_search, sizes = zip(*searched, strict=True)
            weights[is_searched] = penalty_weights(in_search, sizes, self.gate.cost_exponent)
        return weights

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
            "check_ids": self.check_ids,
        }
        return super().get_config() | config

    @classmethod
    def from_config(cls, config):
        return cls(**(config | {"gate": keras.saving.deserialize_keras_object(config["gate"])}))
