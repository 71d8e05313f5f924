"""ChunkedEmbedding: embeddings whose rows have as many dimensions as they deserve, inside fixed memory (FIITED)."""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence

import keras
import numpy as np
import tensorflow as tf

from keras_dimgrow import adapters
from keras_dimgrow.chunking import ChunkConfig, choose_ratios, count_slots
from keras_dimgrow.fields import Field, first_of_each_table
from keras_dimgrow.layers.chunk_store import ChunkStore
from keras_dimgrow.layers.inputs import FieldIds, batch_size_of, combine, present_ids, read_ids


@keras.saving.register_keras_serializable("keras_dimgrow")
class ChunkedEmbedding(keras.layers.Layer):
    """Embeds fields in chunks of rows that come and go while the model trains, and adapts them to a fixed width.

    A row has `Field.max_dim` dimensions in K chunks. Chunks live in a pool that is allocated once, one for each chunk
    width that occurs (`stores`); those that the pool has no room for are zeros. Every `period` training steps, inside the
    training step itself, the chunks of least utility are evicted and those of most utility allocated. All of this is in
    variables: a model that is saved and loaded in the middle of a period goes on as if it had not been.

    Any optimizer trains the layer. `LazyAdam`, and Keras's own made `growable`, also start their slots anew where a chunk
    has a new owner; with others it inherits the moments of the last one. Calls without `training=True` give chunks no
    gradients.

    Args:
        fields: the fields, in the order of the inputs. `max_dim` is the dimension of an unpruned row, `min_dim` is ignored.
        config: a ChunkConfig; the default has 2 chunks and prunes 75% of them.
        adapter_width: d_bb, width of the output.
        adapter: "joint" ([B, d_bb]) or "per_field" ([B, F, d_bb]).
        stddev: chunks start from N(0, stddev^2), and again when they are allocated anew.
        seed: seed of initial values and of samples for thresholds.
        check_ids: whether traced functions, too, raise an error for ids outside their vocabulary; unchecked, such an id
            may read another field's row. Eager calls always check.

    Input shape: dict {field name: int [B]}, list of int [B], or int matrix [B, F]; int [B, L] for a field with a combiner.
    Output shape: `[B, adapter_width]`, or `[B, F, adapter_width]` per field.

    Raises:
        ValueError: if K does not divide a field's max_dim, fields of one table differ in it, the budget holds no chunk of
            some width, ids do not fit (see `Field`), or the layer is built for more than one replica.

    Example:
        >>> layer = ChunkedEmbedding([Field(name="city", vocabulary_size=50)], ChunkConfig(pruning_ratio=0.5), seed=0)
        >>> layer({"city": np.array([0, 49])}).shape, layer.summary()["slots"]
        (TensorShape([2, 64]), 50)
    """

    _store_class = ChunkStore

    def __init__(
        self,
        fields: Sequence[Field],
        config: ChunkConfig | None = None,
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
        self.config = config or ChunkConfig()
        self.adapter_width = adapter_width
        self.adapter = adapter
        self.stddev = stddev
        self.seed = int(np.random.randint(2**31)) if seed is None else seed
        self.check_ids = check_ids
        tables = first_of_each_table(self.fields, ("max_dim",))
        for table in tables:
            if table.max_dim % self.config.chunks:
                raise ValueError(
                    f"{self.name}, field {table.name!r}: the number of chunks must divide max_dim; received "
                    f"chunks={self.config.chunks}, max_dim={table.max_dim}."
                )
        ratio = choose_ratios(self.config, {table: table.max_dim for table in tables})
        self._dims = sorted({table.max_dim for table in tables})
        for dim in self._dims:
            # As attributes: tf.train.Checkpoint looks into no dict whose keys are numbers.
            setattr(self, f"store_{dim}", self._make_store(dim, [t for t in tables if t.max_dim == dim], ratio))
        # Sizes of what is looked up and updated depend on the data.
        self.supports_jit = False

    def _make_store(self, dim: int, tables: Sequence[Field], ratio) -> ChunkStore:
        sizes = [table.vocabulary_size for table in tables]
        return self._store_class(
            sizes,
            dim,
            count_slots(self.config, sum(sizes), ratio),
            ratio,
            self.config,
            self.stddev,
            self.seed + dim,
            name=f"store_{dim}",
            dtype=self.dtype_policy,
        )

    @property
    def stores(self) -> dict[int, ChunkStore]:
        """Dimension of an unpruned row -> the store of the tables that have it."""
        return {dim: getattr(self, f"store_{dim}") for dim in self._dims}

    def _fields_of(self, dim: int) -> list[Field]:
        """The fields of one store, plain ones first, of these the direct ones: looked up as one matrix."""
        direct = self._direct_keys(dim)
        fields = [field for field in self.fields if field.max_dim == dim]
        return sorted(fields, key=lambda field: (not field.is_plain, field.is_plain and field.table_key not in direct))

    def _direct_keys(self, dim: int) -> set[tuple[str, str]]:
        """The keys of tables whose rows have no addresses of their own: none while it trains."""
        return set()

    def _offsets(self, dim: int) -> dict[tuple[str, str], int]:
        """What each table's ids begin at in what its store locates, by the table's key."""
        return dict(zip(self._table_keys(dim), self.stores[dim].offsets, strict=True))

    def _table_keys(self, dim: int) -> list[tuple[str, str]]:
        return [table.table_key for table in first_of_each_table([f for f in self.fields if f.max_dim == dim], ())]

    def build(self, input_shape):
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        if replicas > 1:
            raise ValueError(
                f"{self.name}: a ChunkedEmbedding trains on one replica; received a distribution strategy with {replicas}. "
                "Each replica would choose chunks of its own. Train it without the strategy, or use DimGrowEmbedding or "
                "PlannedEmbedding."
            )
        for store in self.stores.values():
            store.build()
        self.kernel = self.add_weight(
            shape=(sum(field.max_dim for field in self.fields), self.adapter_width),
            initializer=keras.initializers.RandomNormal(stddev=self.adapter_width**-0.5, seed=self.seed),
            autocast=False,
            name="kernel",
        )

    def call(self, inputs, training=None):
        rows = [tf.cast(part, self.compute_dtype) for part in self.embed(inputs, training)]
        kernel = tf.cast(self.kernel.value, self.compute_dtype)
        kernels = tf.split(kernel, [dim * len(self._fields_of(dim)) for dim in self._dims])
        adapt = self._adapt_jointly if self.adapter == "joint" else self._adapt_per_field
        return adapt(rows, kernels)

    def embed(self, inputs, training=None) -> list[tf.Tensor]:
        """The zero-padded embeddings of the fields of each store, [B, fields, D], in the order of `stores`."""
        read = read_ids(inputs, self.fields, self.name, self.check_ids)
        ids = {field.name: field_ids for field, field_ids in zip(self.fields, read, strict=True)}
        return [self._embed(dim, ids, bool(training)) for dim in self._dims]

    def _embed(self, dim: int, ids: Mapping[str, FieldIds], is_training: bool) -> tf.Tensor:
        store, fields = self.stores[dim], self._fields_of(dim)
        offsets, direct = self._offsets(dim), self._direct_keys(dim)
        plain = [field for field in fields if field.is_plain]
        combined = fields[len(plain) :]
        is_small = store.num_rows < 2**31 and all(ids[field.name].ids.dtype == tf.int32 for field in fields)
        dtype = tf.int32 if is_small else tf.int64
        # One look-up for all: the utility of a chunk counts its accesses in a step, whichever field they come from.
        parts = []
        matrices = []
        for is_direct, group in itertools.groupby(plain, lambda field: field.table_key in direct):
            of_group = list(group)
            matrix = tf.stack([tf.cast(ids[field.name].ids, dtype) for field in of_group], axis=1)
            rows = matrix + tf.constant([offsets[field.table_key] for field in of_group], dtype)
            matrices.append(store.locate(rows, is_direct))
        if plain:
            matrix = tf.concat(matrices, axis=1) if len(matrices) > 1 else matrices[0]
            parts.append(tf.reshape(matrix, [-1, *matrix.shape[2:]]))
        for field in combined:
            rows = tf.cast(present_ids(ids[field.name], field), dtype) + offsets[field.table_key]
            parts.append(store.locate(rows, field.table_key in direct))
        located = tf.concat(parts, axis=0) if len(parts) > 1 else parts[0]
        embedded, zero = store.look_up(located, is_training)
        if is_training:
            self.add_loss(zero)
        if not combined:
            return tf.reshape(embedded, [-1, len(plain), dim])
        pieces = tf.split(embedded, tf.stack([tf.shape(part)[0] for part in parts]), num=len(parts))
        found = [tf.reshape(pieces.pop(0), [-1, len(plain), dim])] if plain else []
        for field, piece in zip(combined, pieces, strict=True):
            found.append(combine(piece, ids[field.name], field)[:, tf.newaxis])
        return tf.concat(found, axis=1)

    def _adapt_jointly(self, rows: Sequence[tf.Tensor], kernels: Sequence[tf.Tensor]) -> tf.Tensor:
        q = [tf.reshape(part, [-1, kernel.shape[0]]) for part, kernel in zip(rows, kernels, strict=True)]
        return tf.add_n([adapters.adapt_jointly(part, kernel) for part, kernel in zip(q, kernels, strict=True)])

    def _adapt_per_field(self, rows: Sequence[tf.Tensor], kernels: Sequence[tf.Tensor]) -> tf.Tensor:
        parts = []
        for dim, part, kernel in zip(self._dims, rows, kernels, strict=True):
            parts.append(tf.einsum("bfd,fdw->bfw", part, tf.reshape(kernel, [-1, dim, self.adapter_width])))
        order = [field.name for dim in self._dims for field in self._fields_of(dim)]
        names = [field.name for field in self.fields]
        adapted = tf.concat(parts, axis=1) if len(parts) > 1 else parts[0]
        return adapted if order == names else tf.gather(adapted, [order.index(name) for name in names], axis=1)

    # What follows is eager.

    def start_with(self, dimensions: Mapping[str, int]) -> None:
        """Gives rows their first chunks by a plan (`plan.dimensions`, of MDE or DimGrow, say), before training.

        A table of dimension d starts with the first d / w chunks of its rows; where that is no whole number, low ids have one
        more. That takes as much memory as the plan's table. Where the pool is too small for all, first chunks go before second
        ones. Without this, each table starts with the share of its chunks that the pool has room for, low ids first.

        Args:
            dimensions: field name -> dimension; fields that are left out start without chunks.
        """
        for dim, store in self.stores.items():
            tables = first_of_each_table([field for field in self.fields if field.max_dim == dim], ())
            width = store.chunk_width
            store.start_with([dimensions.get(table.name, 0) / width for table in tables])

    def live_chunks(self) -> dict[str, np.ndarray]:
        """Field name -> live chunks of each of its rows, int [V]."""
        return self._by_field({dim: store.live_chunks() for dim, store in self.stores.items()})

    def mean_dimensions(self) -> dict[str, float]:
        """Field name -> dimensions that a row has on average."""
        widths = {field.name: field.max_dim // self.config.chunks for field in self.fields}
        return {name: float(live.mean() * widths[name]) for name, live in self.live_chunks().items()}

    def tables_by_field(self) -> dict[str, np.ndarray]:
        """Field name -> its zero-padded table [V, D]: as much memory as uniform tables take."""
        return self._by_field({dim: store.rows() for dim, store in self.stores.items()})

    def _by_field(self, rows: Mapping[int, np.ndarray]) -> dict[str, np.ndarray]:
        by_field = {}
        starts = {dim: dict(zip(self._table_keys(dim), self.stores[dim].starts, strict=True)) for dim in rows}
        for field in self.fields:
            start = starts[field.max_dim][field.table_key]
            by_field[field.name] = rows[field.max_dim][start : start + field.vocabulary_size]
        return by_field

    def summary(self) -> dict[str, int]:
        """What the pools hold, and what happened in them.

        `slots`, `used`; `bytes` of pools, index, utilities and the rest of the stores' state (not the optimizer's); and, since
        the layer was built, chunks `evicted` and `allocated`, and `dropped`: how often a chunk was above the threshold and
        found no free slot.
        """
        summaries = [store.summary() for store in self.stores.values()]
        return {key: sum(summary[key] for summary in summaries) for key in summaries[0]}

    def compute_output_shape(self, input_shape):
        return adapters.adapted_shape(batch_size_of(input_shape), self.adapter, len(self.fields), self.adapter_width)

    def get_config(self):
        config = {
            "fields": [dataclasses.asdict(field) for field in self.fields],
            "config": keras.saving.serialize_keras_object(self.config),
            "adapter_width": self.adapter_width,
            "adapter": self.adapter,
            "stddev": self.stddev,
            "seed": self.seed,
            "check_ids": self.check_ids,
        }
        return super().get_config() | config

    @classmethod
    def from_config(cls, config):
        return cls(**(config | {"config": keras.saving.deserialize_keras_object(config["config"])}))
