"""StoredChunkedEmbedding: a ChunkedEmbedding as it is served: live chunks and index, nothing that only training needs."""

from collections.abc import Sequence
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from keras_dimgrow import storage
from keras_dimgrow.chunking import ChunkConfig
from keras_dimgrow.fields import Field
from keras_dimgrow.layers.chunk_store import ChunkStore
from keras_dimgrow.layers.chunked_embedding import ChunkedEmbedding
from keras_dimgrow.layers.stored_embedding import validate_storage


class Layout(NamedTuple):
    """How the rows of a StoredChunks lie in its pool.

    Attributes:
        num_parts: parts of a row that have an address of their own, each of one or more chunks.
        num_stored: parts in the pool.
        direct: the tables, by their number, all of whose rows are stored, in order: they need no addresses.
    """

    num_parts: int
    num_stored: int
    direct: tuple[int, ...] = ()


class StoredChunks(ChunkStore):
    """The live chunks of a ChunkStore, and an index of addresses, in the layout that is read with least work.

    Chunks of a row mostly live and die together: a row of one part is a single read after its address. What a part lacks is
    stored as zeros.

    Args: see `ChunkStore`. `set_layout` is called before it is built.
    """

    def set_layout(self, storage_name: str, layout: Layout) -> None:
        """Chooses what the variables are: `storage_name` as in `with_storage`, `layout` from `choose_layout`."""
        self.storage, self.layout = storage_name, layout
        self.part_width = self.dimension // layout.num_parts
        # Direct rows come first in the pool, after the zeros; the index has the others.
        next_row, next_address = 0, 1
        self.offsets = list(self.starts)
        for table, size in enumerate(self.table_sizes):
            if table in layout.direct:
                self.offsets[table] = next_address
                next_address += size
            else:
                self.offsets[table] = next_row
                next_row += size
        self.num_indexed = min(next_row, self.num_entries)

    def build(self, input_shape=None):
        num_parts, num_stored, _ = self.layout
        self.pool = self.add_weight(
            shape=storage.stored_shape(self.storage, num_stored + 1, self.part_width),
            dtype=storage.stored_dtype(self.storage, self.part_width),
            initializer="zeros",
            trainable=False,
            autocast=False,
            name="pool",
        )
        self.index = self.add_weight(
            shape=(self.num_indexed,) if num_parts == 1 else (self.num_indexed, num_parts),
            dtype="int32",
            initializer="zeros",
            trainable=False,
            autocast=False,
            name="index",
        )

    def take_over(self, store: ChunkStore) -> None:
        """The chunks of a store that was trained, encoded."""
        num_parts, num_stored, direct = self.layout
        of_entries, chunks_of_part = store.index.numpy(), self.config.chunks // num_parts
        owners = np.repeat(np.isin(np.arange(len(self.table_sizes)), direct), self.table_sizes)
        is_direct = owners if direct else np.zeros(self.num_entries, bool)
        of_indexed = of_entries[~is_direct].reshape(-1, chunks_of_part)
        is_live = of_indexed.any(axis=1)
        chunks = np.concatenate([of_entries[is_direct].reshape(-1, chunks_of_part), of_indexed[is_live]])
        parts = store.pool.numpy()[chunks].reshape(num_stored, self.part_width)
        index = np.zeros(len(of_indexed), np.int32)
        index[is_live] = np.arange(num_stored - is_live.sum(), num_stored) + 1
        self.pool.assign(storage.encode(np.pad(parts, ((1, 0), (0, 0))), self.storage))
        self.index.assign(index.reshape(self.index.shape))

    def locate(self, rows: tf.Tensor, is_direct: bool) -> tf.Tensor:
        """Addresses in the pool, int32 [...], or [..., parts] where rows have several."""
        return tf.cast(rows, tf.int32) if is_direct else tf.gather(self.index.value, self.entries_of(rows))

    def look_up(self, addresses: tf.Tensor, is_training: bool) -> tuple[tf.Tensor, None]:
        """The rows at addresses from `locate`, pruned chunks as zeros, [N, D]; no loss."""
        rows = storage.decode(tf.gather(self.pool.value, addresses), self.storage, self.part_width)
        return (rows if self.layout.num_parts == 1 else tf.reshape(rows, [-1, self.dimension])), None

    def _locate_all(self) -> tf.Tensor:
        tables = [
            self.locate(start + tf.range(size, dtype=tf.int64), table in self.layout.direct)
            for table, (start, size) in enumerate(zip(self.offsets, self.table_sizes, strict=True))
        ]
        return tf.concat(tables, axis=0)

    def rows(self) -> np.ndarray:
        """All embeddings, [rows, D], pruned chunks as zeros: as much memory as uniform tables take."""
        return self.look_up(self._locate_all(), False)[0].numpy()

    def live_chunks(self) -> np.ndarray:
        """Chunks of each row that are stored, int [rows]."""
        addresses = self._locate_all().numpy().reshape(self.num_rows, self.layout.num_parts)
        return np.count_nonzero(addresses, axis=1) * (self.config.chunks // self.layout.num_parts)

    def summary(self) -> dict[str, int]:
        """Chunks that are stored, and bytes: what changed hands in training is not kept."""
        num_chunks = self.layout.num_stored * self.config.chunks // self.layout.num_parts
        size = sum(int(np.prod(v.shape)) * tf.as_dtype(v.dtype).size for v in self.variables)
        return {"slots": num_chunks, "used": num_chunks, "bytes": size}


def choose_layout(store: ChunkStore, storage_name: str) -> Layout:
    """The layout of a trained store that takes no more bytes than its live chunks with an address each.

    Of such, rows have as few parts as possible; where they have one, as many tables as possible are direct.
    """
    index = store.index.numpy()
    num_entries, num_chunks = index.shape

    def part_bytes(num_parts: int) -> int:
        width = store.dimension // num_parts
        num_values = storage.stored_shape(storage_name, 1, width)[1]
        return num_values * tf.as_dtype(storage.stored_dtype(storage_name, width)).size

    def count(num_parts: int) -> int:
        return int(index.reshape(num_entries * num_parts, -1).any(axis=1).sum())

    limit = count(num_chunks) * part_bytes(num_chunks) + index.nbytes
    for num_parts in range(1, num_chunks + 1):
        if num_chunks % num_parts == 0:
            num_stored = count(num_parts)
            spare = limit - num_stored * part_bytes(num_parts) - index.itemsize * num_entries * num_parts
            if spare >= 0:
                break
    if num_parts > 1 or num_entries < store.num_rows:  # hashed entries belong to no table
        return Layout(num_parts, num_stored)
    num_pruned = np.add.reduceat(~index.any(axis=1), store.starts, dtype=np.int64)
    costs = num_pruned * part_bytes(1) - index.itemsize * np.array(store.table_sizes)
    order = np.argsort(costs, kind="stable")
    direct = order[np.cumsum(costs[order]) <= spare]
    return Layout(1, num_stored + int(num_pruned[direct].sum()), tuple(np.sort(direct).tolist()))


@keras.saving.register_keras_serializable("keras_dimgrow")
class StoredChunkedEmbedding(ChunkedEmbedding):
    """Gives what a `ChunkedEmbedding` gives, in inference only: `with_storage` makes it.

    Args:
        fields, config, adapter_width, adapter, check_ids: see `ChunkedEmbedding`.
        storage: "float32", "float16" or "int8": of the pool; int8 has a scale for each part of a row, a byte more.
        layouts: of each store, by dimension ascending.

    Input and output shape: see `ChunkedEmbedding`.

    Raises:
        ValueError: if it is called with `training=True`; for ids that do not fit.
    """

    _store_class = StoredChunks

    def __init__(
        self,
        fields: Sequence[Field],
        config: ChunkConfig,
        adapter_width: int = 64,
        adapter: str = "joint",
        storage: str = "float32",
        check_ids: bool = False,
        layouts: Sequence[Layout] = (),
        **kwargs,
    ):
        super().__init__(
            fields, config, adapter_width, adapter, seed=0, check_ids=check_ids, **({"trainable": False} | kwargs)
        )
        self.storage = validate_storage(storage)
        self.layouts = [Layout(parts, stored, tuple(direct)) for parts, stored, direct in layouts]
        for store, layout in zip(self.stores.values(), self.layouts, strict=True):
            store.set_layout(self.storage, layout)

    @classmethod
    def of(cls, layer: ChunkedEmbedding, storage: str) -> "StoredChunkedEmbedding":
        """What `layer` has learned, with its pool in `storage`."""
        stored = cls(
            layer.fields,
            layer.config,
            layer.adapter_width,
            layer.adapter,
            storage,
            layer.check_ids,
            [choose_layout(store, storage) for store in layer.stores.values()],
            dtype=layer.dtype_policy,
            name=layer.name,
        )
        stored.build(None)
        for dim, store in layer.stores.items():
            stored.stores[dim].take_over(store)
        kernel, width = layer.kernel.numpy(), layer.adapter_width
        start = 0
        for dim in layer.stores:
            names = [field.name for field in layer._fields_of(dim)]
            order = [names.index(field.name) for field in stored._fields_of(dim)]
            of_store = kernel[start : start + dim * len(names)]
            of_store[:] = of_store.reshape(len(names), dim, width)[order].reshape(of_store.shape)
            start += len(of_store)
        stored.kernel.assign(kernel)
        return stored

    def _direct_keys(self, dim):
        keys = self._table_keys(dim)
        return {keys[table] for table in self.stores[dim].layout.direct}

    def call(self, inputs, training=None):
        if training:
            raise ValueError(
                f"{self.name}: a model made by with_storage only predicts: its {self.storage} pool has no gradients. "
                "Train the model that it was made of, and call with_storage again."
            )
        return super().call(inputs, training=False)

    def get_config(self):
        config = super().get_config()
        for name in ("stddev", "seed"):  # of initial values, which it has none of
            del config[name]
        return config | {"storage": self.storage, "layouts": self.layouts}
