"""GrowableEmbedding: embeddings that gain columns and rows, and lose directions, while the model trains.

Longer than most files: whatever changes the tables' shapes must change the adapter and the optimizer's slots alike.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import keras
import numpy as np
import tensorflow as tf

from keras_dimgrow import adapters
from keras_dimgrow.fields import Field, tables_of
from keras_dimgrow.layers.inputs import batch_size_of, embed, read_ids
from keras_dimgrow.plan import EmbeddingPlan
from keras_dimgrow.variables import GrowableVariable


@keras.saving.register_keras_serializable("keras_dimgrow")
class GrowableEmbedding(keras.layers.Layer):
    """Embeds fields with the dimensions that their tables have now, and adapts them to a fixed width.

    `grow` adds columns that leave the layer's output as it is: they start as zeros, with adapter rows that do not, so
    that they learn from the first step. `project` replaces the columns of a table by fewer combinations of them.
    `add_rows` makes room for ids that came up since. None of them retraces the model's functions, and what a projection
    removes is freed. All state is in the layer's variables.

    Fields that share a table (`Field.table`) have its dimension in common and adapter rows of their own;
    `searched_tables`, `tables` and `allocated_dims` have one entry a table, `table_of` the position of each field's.

    Args:
        fields: the fields, in the order of the inputs.
        dimensions: columns that each table starts with, in the order of `searched_tables`; 0 for none. None: one each, or
            the field's min_dim.
        adapter_width: d_bb, width of the output.
        adapter: "joint" ([B, d_bb]) or "per_field" ([B, F, d_bb]).
        stddev: first columns are drawn from N(0, stddev^2).
        seed: seed of initial values and new columns.
        check_ids: whether traced functions, too, raise an error for ids outside their vocabulary.

    Input shape: dict {field name: int [B]}, list of int [B], or int matrix [B, F]; int [B, L] for a field with a combiner.
    Output shape: `[B, adapter_width]`, or `[B, F, adapter_width]` per field.

    Example:
        >>> layer = GrowableEmbedding([Field(name="city", vocabulary_size=50)], adapter_width=8, seed=0)
        >>> before = layer({"city": np.arange(50)})
        >>> layer.grow({0: 3})
        >>> bool(np.allclose(layer({"city": np.arange(50)}), before)), layer.allocated_dims
        (True, [4])
    """

    def __init__(
        self,
        fields: Sequence[Field],
        dimensions: Sequence[int] | np.ndarray | None = None,
        adapter_width: int = 64,
        adapter: str = "joint",
        stddev: float = 0.01,
        seed: int | None = None,
        check_ids: bool = False,
        **kwargs,
    ):
        super().__init__(autocast=False, **kwargs)
        adapters.validate_adapter(adapter, adapter_width)
        self.fields = tuple(Field(**f) if isinstance(f, Mapping) else f for f in fields)
        self.searched_tables = tables_of(self.fields)
        start = [max(1, table.min_dim) for table in self.searched_tables] if dimensions is None else dimensions
        self.start_dims = [int(dim) for dim in start]
        self.adapter_width = adapter_width
        self.adapter = adapter
        self.stddev = stddev
        self.seed = int(np.random.randint(2**31)) if seed is None else seed
        self.check_ids = check_ids
        keys = [table.table_key for table in self.searched_tables]
        self.table_of = [keys.index(field.table_key) for field in self.fields]
        # Device of each table, set before the layer is built; None leaves it to TensorFlow.
        self.table_devices: list[str | None] = [None] * len(self.searched_tables)
        # Dynamic shapes would make XLA compile again after every growth.
        self.supports_jit = False

    def build(self, input_shape):
        def add(name, shape, axes, initializer, device=None):
            with tf.device(device):
                variable = GrowableVariable(initializer, shape, axes, dtype=self.variable_dtype, name=name)
            self._track_variable(variable)
            return variable

        self.tables = [
            add(
                f"table_{index}",
                (table.vocabulary_size, dim),
                (0, 1),
                keras.initializers.RandomNormal(stddev=self.stddev, seed=self.seed + index),
                self.table_devices[index],
            )
            for index, (table, dim) in enumerate(zip(self.searched_tables, self.start_dims, strict=True))
        ]
        for table in self.tables:
            setattr(self, table.name, table)  # tf.train.Checkpoint does not look into Keras's lists
        num_rows = sum(self.start_dims[table] for table in self.table_of)
        kernel = self._new_rows(num_rows, len(self.tables))
        self.kernel = add("kernel", kernel.shape, (0,), lambda shape, dtype: tf.cast(kernel, dtype))
        # Growths so far: what the next columns are drawn with.
        self.num_growths = self.add_weight(
            shape=(), initializer="zeros", dtype="int32", trainable=False, name="num_growths"
        )

    def _new_rows(self, num_rows: int, stream: int) -> tf.Tensor:
        """Rows of the adapter for new columns: of length 1 on average, so that their columns learn from the first step."""
        return tf.random.stateless_normal(
            [num_rows, self.adapter_width], [self.seed, stream], stddev=self.adapter_width**-0.5
        )

    def call(self, inputs, training=None):
        return self.adapt(self.embed(inputs))

    def adapt(self, rows: Sequence[tf.Tensor]) -> tf.Tensor:
        """The layer's output, from the embedding of each field."""
        q = tf.cast(tf.concat(rows, axis=1), self.compute_dtype)
        kernel = tf.cast(self.kernel.value, q.dtype)
        if self.adapter == "joint":
            return adapters.adapt_jointly(q, kernel)
        widths = tf.stack([tf.shape(row)[1] for row in rows])
        return adapters.adapt_per_field(q, kernel, tf.repeat(tf.range(len(rows)), widths), len(rows))

    def embed(self, inputs) -> list[tf.Tensor]:
        """The embedding of each field, [B, d_i]."""
        ids = read_ids(inputs, self.fields, self.name, self.check_ids)
        return [
            embed(self.tables[table].value, field_ids, field)
            for table, field_ids, field in zip(self.table_of, ids, self.fields, strict=True)
        ]

    def slopes(self, gradients: tf.Tensor, embeddings: Sequence[tf.Tensor]) -> tf.Tensor:
        """The gradient in the embeddings, [B, sum d_i], from the gradient in the output and the fields' embeddings."""
        kernel = tf.cast(self.kernel.value, gradients.dtype)
        if self.adapter == "joint":
            return tf.matmul(gradients, kernel, transpose_b=True)
        widths = tf.stack([tf.shape(rows)[1] for rows in embeddings])
        owners = tf.repeat(tf.range(len(embeddings)), widths)
        return tf.einsum("bdk,dk->bd", tf.gather(gradients, owners, axis=1), kernel)

    # What follows is eager.

    @property
    def allocated_dims(self) -> list[int]:
        """Columns that each table has."""
        return [int(table.shape[1]) for table in self.tables]

    def dimensions(self) -> dict[str, int]:
        """Field name -> columns of its table."""
        dims = self.allocated_dims
        return {field.name: dims[table] for field, table in zip(self.fields, self.table_of, strict=True)}

    def plan(self) -> EmbeddingPlan:
        """The plan of the present dimensions."""
        return EmbeddingPlan.from_dimensions(self.fields, self.dimensions())

    def bounds(self) -> np.ndarray:
        """Where each field's columns begin among all fields', and its rows in the kernel; and where the last end, [F + 1]."""
        return self._bounds_of(self.allocated_dims)

    def _bounds_of(self, dims: Sequence[int]) -> np.ndarray:
        return np.cumsum([0, *(dims[table] for table in self.table_of)])

    def grow(self, columns: Mapping[int, int], optimizer=None) -> None:
        """Adds columns to tables; the output stays as it is.

        Args:
            columns: position in `searched_tables` -> number of new columns.
            optimizer: one with `GrowableSlots`, which grows at the same places; None before the optimizer is built.
        """
        self.num_growths.assign_add(1)
        stream = len(self.tables) + int(self.num_growths.numpy())
        total = sum(columns.get(table, 0) for table in self.table_of)
        new_rows = iter(np.asarray(self._new_rows(total, stream)))

        def insert(variable, axis, position, values):
            variable.insert(axis, position, values)
            if optimizer is not None:
                optimizer.insert_slots(variable, axis, position, values)

        ends = self.bounds()[1:]
        positions, rows = [], []
        for field, table in enumerate(self.table_of):
            for _ in range(columns.get(table, 0)):
                positions.append(int(ends[field]))
                rows.append(next(new_rows))
        for index, count in columns.items():
            shape = [self.searched_tables[index].vocabulary_size, count]
            with tf.device(self.tables[index].device):
                columns_of_zeros = tf.zeros(shape)
            insert(self.tables[index], 1, self.allocated_dims[index], columns_of_zeros)
        if positions:
            insert(self.kernel, 0, positions, tf.constant(np.stack(rows)))

    def add_rows(self, vocabulary_sizes: Mapping[str, int], optimizer=None) -> None:
        """Makes room for new ids, while the model trains: they get rows behind those that are there, which stay as they are.

        Nothing is traced again. New rows are drawn from N(0, stddev^2). For models with other layers, see `grow_vocabulary`.

        Args:
            vocabulary_sizes: new vocabulary size, by field; of fields that share a table one is enough.
            optimizer: one with `GrowableSlots`, whose slots get the same rows, at their start; None before it is built.

        Raises:
            ValueError: for an unknown field, a smaller size, or a layer with `check_ids`, whose checks are in what was traced.
        """
        owners = dict(zip([field.name for field in self.fields], self.table_of, strict=True))
        unknown = sorted(set(vocabulary_sizes) - set(owners))
        if unknown:
            raise ValueError(f"The layer {self.name!r} embeds {sorted(owners)}; received sizes of {unknown}.")
        if self.check_ids:
            raise ValueError(
                f"The layer {self.name!r} checks ids in traced functions, by the sizes they were traced with. Build it "
                "without check_ids, or make a new model by grow_vocabulary."
            )
        sizes = [table.vocabulary_size for table in self.searched_tables]
        for name, size in vocabulary_sizes.items():
            index = owners[name]
            if size < self.searched_tables[index].vocabulary_size:
                raise ValueError(
                    f"Field {name!r}: its vocabulary has {self.searched_tables[index].vocabulary_size} ids; received the "
                    f"smaller size {size}. Rows can only be added here."
                )
            sizes[index] = max(sizes[index], size)
        self.num_growths.assign_add(1)
        stream = len(self.tables) + int(self.num_growths.numpy())
        for index, table in enumerate(self.tables):
            num_rows, dim = table.shape
            if sizes[index] == num_rows:
                continue
            rows = tf.random.stateless_normal(
                [sizes[index] - num_rows, dim], [self.seed + index, stream], stddev=self.stddev
            )
            table.insert(0, num_rows, rows)
            if optimizer is not None:
                optimizer.insert_slots(table, 0, num_rows, rows)
        self.fields = tuple(
            dataclasses.replace(field, vocabulary_size=sizes[table])
            for field, table in zip(self.fields, self.table_of, strict=True)
        )
        self.searched_tables = tables_of(self.fields)

    def project(self, index: int, basis: np.ndarray, mixing: np.ndarray, optimizer=None) -> None:
        """Replaces the columns E of a table by E basis, and the adapter rows W_f of its fields by mixing W_f.

        Args:
            index: position in `searched_tables`.
            basis: [d, r], orthonormal columns.
            mixing: [r, d].
            optimizer: its first moments are rotated with what they belong to, its second moments with the squares, exact where
                columns are uncorrelated.
        """
        table = self.tables[index]
        squared = basis**2
        dims = self.allocated_dims
        for variable, is_second_moment in self._with_slots(table, optimizer):
            matrix = squared if is_second_moment else basis
            with tf.device(variable.device):
                rotated = tf.matmul(variable.value, tf.constant(matrix, table.dtype))
            variable.assign(rotated)
        bounds = self._bounds_of(dims)
        for variable, is_second_moment in self._with_slots(self.kernel, optimizer):
            matrix = mixing if variable is self.kernel else (squared.T if is_second_moment else basis.T)
            parts = np.split(variable.numpy(), bounds[1:-1])
            parts = [matrix @ part if i == index else part for i, part in zip(self.table_of, parts, strict=True)]
            variable.assign(tf.constant(np.concatenate(parts), variable.dtype))

    @staticmethod
    def _with_slots(variable, optimizer):
        """The variable and each of its slots, with whether it is a second moment."""
        slots = [] if optimizer is None else optimizer.slots_of(variable)
        return [(variable, False), *((slot, name == "velocity") for name, slot in slots)]

    def compute_output_shape(self, input_shape):
        return adapters.adapted_shape(batch_size_of(input_shape), self.adapter, len(self.fields), self.adapter_width)

    def get_config(self):
        config = {
            "fields": [dataclasses.asdict(field) for field in self.fields],
            "dimensions": self.start_dims,
            "adapter_width": self.adapter_width,
            "adapter": self.adapter,
            "stddev": self.stddev,
            "seed": self.seed,
            "check_ids": self.check_ids,
        }
        return super().get_config() | config
