"""StoredChunkedEmbedding: a ChunkedEmbedding as it is served: pool and index, nothing that only training needs."""

from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from keras_dimgrow import storage
from keras_dimgrow.chunking import ChunkConfig
from keras_dimgrow.fields import Field
from keras_dimgrow.layers.chunk_store import ChunkStore
from keras_dimgrow.layers.chunked_embedding import ChunkedEmbedding
from keras_dimgrow.layers.stored_embedding import validate_storage


class StoredChunks(ChunkStore):
    """The pool, encoded chunk by chunk, and the index of a ChunkStore: K / D values of index for each of an unpruned row.

    Args: see `ChunkStore`. `storage` is set before it is built.
    """

    storage = "float32"

    def build(self, input_shape=None):
        self.pool = self.add_weight(
            shape=storage.stored_shape(self.storage, self.num_slots + 1, self.chunk_width),
            dtype=storage.stored_dtype(self.storage, self.chunk_width),
            initializer="zeros",
            trainable=False,
            autocast=False,
            name="pool",
        )
        self.index = self.add_weight(
            shape=(self.num_entries, self.config.chunks),
            dtype="int32",
            initializer="zeros",
            trainable=False,
            autocast=False,
            name="index",
        )

    def take_over(self, store: ChunkStore) -> None:
        """The chunks of a store that was trained, encoded."""
        self.pool.assign(storage.encode(store.pool.numpy(), self.storage))
        self.index.assign(store.index.numpy())

    def look_up(self, entries: tf.Tensor, is_training: bool) -> tuple[tf.Tensor, None]:
        """The rows of entries, int [N] -> [N, D], pruned chunks as zeros; no loss."""
        chunks = tf.gather(self.pool.value, tf.gather(self.index.value, entries))
        return tf.reshape(storage.decode(chunks, self.storage, self.chunk_width), [-1, self.dimension]), None

    def summary(self) -> dict[str, int]:
        """Slots, how many are used, and bytes: what changed hands in training is not kept."""
        size = sum(int(np.prod(v.shape)) * tf.as_dtype(v.dtype).size for v in self.variables)
        return {"slots": self.num_slots, "used": int(np.count_nonzero(self.index.numpy())), "bytes": size}


@keras.saving.register_keras_serializable("keras_dimgrow")
class StoredChunkedEmbedding(ChunkedEmbedding):
    """Gives what a `ChunkedEmbedding` gives, in inference only: `with_storage` makes it.

    Args:
        fields, config, adapter_width, adapter, check_ids: see `ChunkedEmbedding`.
        storage: "float32", "float16" or "int8": of the pool; int8 has a scale for each chunk, a byte more.

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
        **kwargs,
    ):
        super().__init__(
            fields, config, adapter_width, adapter, seed=0, check_ids=check_ids, **({"trainable": False} | kwargs)
        )
        self.storage = validate_storage(storage)
        for store in self.stores.values():
            store.storage = self.storage

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
            dtype=layer.dtype_policy,
            name=layer.name,
        )
        stored.build(None)
        for dim, store in layer.stores.items():
            stored.stores[dim].take_over(store)
        stored.kernel.assign(layer.kernel)
        return stored

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
        return config | {"storage": self.storage}
