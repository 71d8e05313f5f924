"""PlannedEmbedding: embeddings of the dimensions that a plan gives, for retraining and serving."""

import dataclasses
import functools
from collections.abc import Mapping

import keras
import numpy as np
import tensorflow as tf

from keras_dimgrow import adapters
from keras_dimgrow.devices import place_tables
from keras_dimgrow.layers.inputs import FieldIds, batch_size_of, embed_by, read_ids
from keras_dimgrow.plan import EmbeddingPlan, PlannedField


@dataclasses.dataclass(frozen=True)
class FusedTable:
    """The tables of one dimension, one below the other.

    Attributes:
        offsets: row of each table's id 0, by the table's key.
        num_rows: rows of all tables.
        plain: the fields with one value a row, embedded by one gather.
        combined: the other fields of these tables.
    """

    offsets: dict[tuple[str, str], int]
    num_rows: int
    plain: list[PlannedField]
    combined: list[PlannedField]

    @property
    def fields(self) -> list[PlannedField]:
        """The fields in the order of their columns in Q."""
        return [*self.plain, *self.combined]


def _fuse(plan: EmbeddingPlan) -> dict[int, FusedTable]:
    """Dimension -> what has this dimension."""
    fused = {}
    for dim in sorted({table.dimension for table in plan.tables if table.dimension}):
        tables = [table for table in plan.tables if table.dimension == dim]
        starts = np.cumsum([0] + [table.vocabulary_size for table in tables]).tolist()
        fields = [field for field in plan.fields if field.dimension == dim]
        fused[dim] = FusedTable(
            offsets={table.table_key: start for table, start in zip(tables, starts[:-1], strict=True)},
            num_rows=starts[-1],
            plain=[field for field in fields if field.is_plain],
            combined=[field for field in fields if not field.is_plain],
        )
    return fused


@keras.saving.register_keras_serializable("keras_dimgrow")
class PlannedEmbedding(keras.layers.Layer):
    """Embeds fields by an EmbeddingPlan and adapts them to a fixed width.

    Tables of equal dimension are one variable (each at its own offset): one gather per distinct dimension. Fields of
    dimension 0 are removed: their ids may be passed and are ignored.

    Args:
        plan: an EmbeddingPlan, or the dict of its `to_dict`.
        adapter_width: d_bb, width of the output.
        adapter: "joint" (one [B, d_bb]) or "per_field" ([B, kept fields, d_bb], in the plan's order).
        stddev: embeddings start from N(0, stddev^2). The adapter's rows start with length 1 on average, so that small
            embeddings learn from the first step (docs/decisions/0006).
        seed: seed of the initial values.
        check_ids: whether traced functions, too, raise an error for ids outside their vocabulary; unchecked, such an id
            may read another field's row. Eager calls always check.
        keep_removed: whether, per field, removed fields keep their place in the output, as zeros: what a backbone that was
            trained with them expects (`transfer_layer`).

    Input shape: dict {field name: int [B]}; or list of int [B] or int matrix [B, F], in the order of all fields of the
    plan; int [B, L] for a field with a combiner.
    Output shape: `[B, adapter_width]`, or `[B, kept fields, adapter_width]` per field (all fields with `keep_removed`).

    Raises:
        ValueError: for a plan with fields in chunks (`build_embedding` takes it), and ids that do not fit (see `Field`).

    Example:
        >>> plan = EmbeddingPlan.uniform([PlannedField(name="city", vocabulary_size=50, dimension=1)], 4)
        >>> PlannedEmbedding(plan, adapter_width=8, seed=0)({"city": np.array([0, 49])}).shape
        TensorShape([2, 8])
    """

    def __init__(
        self,
        plan: EmbeddingPlan | Mapping,
        adapter_width: int = 64,
        adapter: str = "joint",
        stddev: float = 0.01,
        seed: int | None = None,
        check_ids: bool = False,
        keep_removed: bool = False,
        **kwargs,
    ):
        # Without autocast: ids are integers, and weights of values are cast once, after they were combined.
        super().__init__(autocast=False, **kwargs)
        adapters.validate_adapter(adapter, adapter_width)
        self.plan = EmbeddingPlan.from_dict(plan) if isinstance(plan, Mapping) else plan
        if self.plan.chunks is not None:
            raise ValueError(
                f"{self.name}: a PlannedEmbedding has no chunks; received a plan with "
                f"{[field.name for field in self.plan.chunked_fields]} in chunks. Train it with retrain, or make its layer "
                "with build_embedding."
            )
        self.adapter_width = adapter_width
        self.adapter = adapter
        self.stddev = stddev
        self.seed = int(np.random.randint(2**31)) if seed is None else seed
        self.check_ids = check_ids
        self.keep_removed = keep_removed
        self._fused = _fuse(self.plan)
        # Dimension -> device of its table, set before the layer is built; one that is not there is left to TensorFlow.
        self.table_devices: dict[int, str | None] = {}

    @property
    def fields(self):
        """The fields that the layer embeds: those that the plan keeps."""
        return self.plan.kept_fields

    @property
    def fields_of_output(self) -> tuple[PlannedField, ...]:
        """The fields that have a place in the output of the adapter per field."""
        return self.plan.fields if self.keep_removed else self.plan.kept_fields

    @property
    def _fields_of_q(self) -> list[PlannedField]:
        """The fields in the order of their columns in Q, and of their rows in the adapter's kernel."""
        return [field for fused in self._fused.values() for field in fused.fields]

    def build(self, input_shape):
        self.tables = {}
        for dim, fused in self._fused.items():
            initializer = keras.initializers.RandomNormal(stddev=self.stddev, seed=self.seed + dim)
            with tf.device(self.table_devices.get(dim)):
                self.tables[str(dim)] = self.add_weight(
                    shape=(fused.num_rows, dim), initializer=initializer, name=f"table_{dim}", autocast=False
                )
            setattr(self, f"table_{dim}", self.tables[str(dim)])  # tf.train.Checkpoint does not look into Keras's dicts
        self.kernel = self.add_weight(
            shape=(sum(field.dimension for field in self._fields_of_q), self.adapter_width),
            initializer=keras.initializers.RandomNormal(stddev=self.adapter_width**-0.5, seed=self.seed),
            name="kernel",
        )

    def place(self, max_gpu_table_bytes: int | None) -> None:
        """Chooses the tables' devices (`place_tables`), before the layer is built."""
        parameters = {f"dimension {dim}": dim * fused.num_rows for dim, fused in self._fused.items()}
        self.table_devices = dict(zip(self._fused, place_tables(parameters, max_gpu_table_bytes), strict=True))

    def call(self, inputs, training=None):
        return self._adapt(self._concatenate(inputs), self.kernel.value)

    def _concatenate(self, inputs) -> tf.Tensor:
        """Q, the embeddings of all kept fields side by side, [B, sum d]."""
        parts = [part for of_dimension in self._embed(inputs).values() for part in of_dimension]
        return tf.cast(tf.concat(parts, axis=1), self.compute_dtype)

    def _embed(self, inputs) -> dict[int, list[tf.Tensor]]:
        """Dimension -> the embeddings of its plain fields side by side, then those of each other field: [B, ...] each."""
        kept = self.plan.kept_fields
        read = read_ids(inputs, kept, self.name, self.check_ids, columns=self.plan.fields)
        ids = {field.name: field_ids for field, field_ids in zip(kept, read, strict=True)}
        parts: dict[int, list[tf.Tensor]] = {}
        for dim, fused in self._fused.items():
            lookup = functools.partial(self._lookup, dim)
            plain = []
            if fused.plain:
                plain = [tf.reshape(lookup(self._rows_of_plain(dim, ids)), [-1, len(fused.plain) * dim])]
            offsets = fused.offsets
            parts[dim] = plain + [
                embed_by(lookup, ids[field.name], field, offsets[field.table_key]) for field in fused.combined
            ]
        return parts

    def _rows_of_plain(self, dim: int, ids: Mapping[str, FieldIds]) -> tf.Tensor:
        """The rows of the plain fields of one dimension in its table, [B, plain fields]."""
        fused = self._fused[dim]
        columns = [ids[field.name].ids for field in fused.plain]
        offsets = [fused.offsets[field.table_key] for field in fused.plain]
        is_short = fused.num_rows < 2**31 and all(column.dtype == tf.int32 for column in columns)
        dtype = tf.int32 if is_short else tf.int64
        return tf.stack([tf.cast(column, dtype) for column in columns], axis=1) + tf.constant(offsets, dtype)

    def _lookup(self, dim: int, rows: tf.Tensor) -> tf.Tensor:
        """The embeddings in these rows of the table of one dimension, [..., dim]."""
        # tf.gather on the variable reads the touched rows only; keras.ops.take would copy the table first.
        return tf.gather(self.tables[str(dim)].value, rows)

    def _adapt(self, q: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        """The output: Q [B, sum d] through `kernel` [sum d, adapter_width]."""
        kernel = tf.cast(kernel, q.dtype)
        if self.adapter == "joint":
            return adapters.adapt_jointly(q, kernel)
        order = self._fields_of_q
        positions = {field.name: i for i, field in enumerate(self.fields_of_output)}
        owners = np.repeat([positions[field.name] for field in order], [field.dimension for field in order])
        return adapters.adapt_per_field(q, kernel, tf.constant(owners, tf.int32), len(positions))

    def tables_by_field(self) -> dict[str, np.ndarray]:
        """The table [V, d] of each field that the plan keeps, those of one shared table alike."""
        self._require_values()
        values = {dim: self._values(dim) for dim in self._fused}
        tables = {}
        for field in self.plan.kept_fields:
            start = self._fused[field.dimension].offsets[field.table_key]
            tables[field.name] = values[field.dimension][start : start + field.vocabulary_size]
        return tables

    def _values(self, dim: int) -> np.ndarray:
        """All tables of one dimension, [rows, dim]."""
        return self.tables[str(dim)].numpy()

    def kernels_by_field(self) -> dict[str, np.ndarray]:
        """The adapter's rows W_i [d, adapter_width] of each field that the plan keeps."""
        self._require_values()
        bounds = np.cumsum([field.dimension for field in self._fields_of_q])[:-1]
        rows = np.split(self.kernel.numpy(), bounds)
        return {field.name: part for field, part in zip(self._fields_of_q, rows, strict=True)}

    def assign_by_field(self, tables: Mapping[str, np.ndarray], kernels: Mapping[str, np.ndarray]) -> None:
        """Takes over the table and the adapter's rows of each kept field: the inverse of the two methods above."""
        self._require_values()
        for dim, fused in self._fused.items():
            first = {field.table_key: field.name for field in reversed(fused.fields)}
            self.tables[str(dim)].assign(np.concatenate([tables[first[key]] for key in fused.offsets]))
        self.kernel.assign(np.concatenate([kernels[field.name] for field in self._fields_of_q]))

    def _require_values(self) -> None:
        if not self.built:
            raise ValueError(
                f"The layer {self.name!r} has no values yet. Build it, train its model, or load it, first."
            )

    def compute_output_shape(self, input_shape):
        return adapters.adapted_shape(
            batch_size_of(input_shape), self.adapter, len(self.fields_of_output), self.adapter_width
        )

    def get_config(self):
        config = {
            "plan": self.plan.to_dict(),
            "adapter_width": self.adapter_width,
            "adapter": self.adapter,
            "stddev": self.stddev,
            "seed": self.seed,
            "check_ids": self.check_ids,
            "keep_removed": self.keep_removed,
        }
        return super().get_config() | config
