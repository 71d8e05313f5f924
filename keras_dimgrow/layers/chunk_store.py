"""ChunkStore: rows cut into chunks that have memory, or not, in a pool of fixed size (FIITED, section 4.3)."""

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_dimgrow.chunking import ChunkConfig, choose_changes, choose_thresholds, hash_rows, mix_with_means
from keras_dimgrow.variables import PoolVariable

# Utilities are stored as u / gamma^n, n steps after they were last rescaled; this is how large 1 / gamma^n may become.
MAX_GROWTH = 1e12
COUNTS = ("evicted", "allocated", "dropped")


class ChunkStore(keras.layers.Layer):
    """The embeddings of some tables of one dimension: pool, index, utilities and free list, all in variables.

    `pool` [slots + 1, w] holds the chunks; row 0 is no slot, stays 0, and is what pruned chunks read. `index` [E, K] has
    the row of each chunk of each entry, 0 where it is pruned: it is the mask, too. `free[:num_free]` is a stack of the rows
    that no chunk owns.

    Utilities are updated in the backward pass, with the gradient that Keras would hand to its optimizer, also where chunks
    are pruned. Chunks change owners at the beginning of the first training call after `period` steps. Both belong to the
    graph of the training step: nothing else must be called.

    Args:
        table_sizes: rows of each table.
        dimension: D of an unpruned row; K must divide it.
        num_slots: chunks that the pool holds.
        ratios: p, or p_k of each chunk, that pruning aims at.
        config: a ChunkConfig.
        stddev: chunks start from N(0, stddev^2), anew when they are allocated again.
        seed: seed of initial values and samples.

    Raises:
        ValueError: for less than one slot, or more slots or chunks than int32 can count.
    """

    def __init__(
        self,
        table_sizes: Sequence[int],
        dimension: int,
        num_slots: int,
        ratios: float | tuple[float, ...],
        config: ChunkConfig,
        stddev: float,
        seed: int,
        **kwargs,
    ):
        super().__init__(autocast=False, **kwargs)
        if not 1 <= num_slots < 2**31 - 1:
            raise ValueError(
                f"{self.name}: the pool of chunks must have 1 to 2^31 - 2 slots; received {num_slots} slots of "
                f"{dimension // config.chunks} numbers for {sum(table_sizes)} rows of dimension {dimension}. "
                "Change the ChunkConfig's parameter_budget or pruning_ratio."
            )
        self.table_sizes = tuple(table_sizes)
        self.dimension = dimension
        self.chunk_width = dimension // config.chunks
        self.num_slots = num_slots
        self.ratios = ratios
        self.config = config
        self.stddev = stddev
        self.seed = seed
        self.num_rows = sum(table_sizes)
        self.num_entries = min(self.num_rows, config.entries or self.num_rows)
        self.starts = np.cumsum([0, *table_sizes[:-1]]).tolist()
        self.offsets = self.starts  # of each table's ids in what `locate` takes
        if self.num_entries * config.chunks >= 2**31:
            raise ValueError(
                f"{self.name}: entries times chunks must be below 2^31; received {self.num_entries} entries of "
                f"{config.chunks} chunks. Lower the ChunkConfig's chunks, or hash rows to fewer entries."
            )
        self._steps_to_rescale = max(1, int(math.log(MAX_GROWTH) / -math.log(config.decay)))

    def build(self, input_shape=None):
        def add(name, value, dtype="int32"):
            return self.add_weight(
                shape=np.shape(value),
                initializer=lambda shape, dtype: tf.constant(value, dtype),
                dtype=dtype,
                trainable=False,
                autocast=False,
                name=name,
            )

        normal = keras.initializers.RandomNormal(stddev=self.stddev, seed=self.seed)

        def values(shape, dtype):
            return tf.concat([tf.zeros([1, shape[1]], dtype), normal((shape[0] - 1, shape[1]), dtype)], axis=0)

        num_chunks = self.config.chunks
        shape = (self.num_slots + 1, self.chunk_width)
        self.pool = PoolVariable(values, shape=shape, dtype=self.variable_dtype, autocast=False, name="pool")
        self._track_variable(self.pool)
        ratios = self.ratios if isinstance(self.ratios, tuple) else (self.ratios,) * num_chunks
        index, free = self._allocate_first([[round((1 - p) * size) for p in ratios] for size in self.table_sizes])
        self.index = add("index", index)
        self.free = add("free", free)
        self.num_free = add("num_free", self.num_slots - np.count_nonzero(index))
        self.utilities = add("utilities", np.zeros((self.num_entries, num_chunks)), "float32")
        self.steps = add("steps", 0)
        self.pruned_at = add("pruned_at", 0)
        self.rescaled_at = add("rescaled_at", 0)
        self.prune_seed = add("prune_seed", [self.seed, 0])
        self.counts = add("counts", np.zeros(len(COUNTS)), "int64")
        # As attributes of the layer, too: tf.train.Checkpoint does not look into variables.
        self.is_fresh = self.pool.is_fresh = add("is_fresh", np.zeros(self.num_slots + 1), "bool")
        self.num_fresh = self.pool.num_fresh = add("num_fresh", 0)
        self.num_look_ups = self.pool.num_look_ups = add("num_look_ups", 0)

    def _allocate_first(self, quotas: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray]:
        """Index and free stack in which the first `quotas[t][k]` rows of table t have chunk k, as far as the pool reaches.

        First rows, because vocabularies are commonly sorted by frequency. Where the pool is too small, first chunks go
        before second ones. A row's chunks are neighbours in the pool, for the processor's caches.
        """
        index = np.zeros((self.num_entries, self.config.chunks), np.int32)
        for start, size, of_table in zip(self.starts, self.table_sizes, quotas, strict=True):
            rows = np.arange(start, start + size)
            entries = rows if self.num_entries == self.num_rows else hash_rows(rows, self.num_entries).numpy()
            for chunk, quota in enumerate(of_table):
                index[entries[:quota], chunk] = 1
        rows_of_live, chunks_of_live = np.nonzero(index)
        order = np.argsort(chunks_of_live, kind="stable")
        kept, left_out = np.sort(order[: self.num_slots]), order[self.num_slots :]
        index[rows_of_live[kept], chunks_of_live[kept]] = np.arange(1, len(kept) + 1)
        index[rows_of_live[left_out], chunks_of_live[left_out]] = 0
        free = np.zeros(self.num_slots, np.int32)
        free[: self.num_slots - len(kept)] = np.arange(self.num_slots, len(kept), -1)
        return index, free

    def entries_of(self, rows: tf.Tensor) -> tf.Tensor:
        """The entries of rows, counted over all tables; (table, id) is hashed where there are fewer entries than rows."""
        return rows if self.num_entries == self.num_rows else hash_rows(rows, self.num_entries)

    def locate(self, rows: tf.Tensor, is_direct: bool) -> tf.Tensor:
        """What `look_up` takes for rows: their entries. No table is direct while it trains (`StoredChunks`)."""
        return self.entries_of(rows)

    def look_up(self, entries: tf.Tensor, is_training: bool) -> tuple[tf.Tensor, tf.Tensor]:
        """The rows of entries, int [N] -> [N, D], pruned chunks as zeros; and a loss of 0.

        In training the gradient reaches live chunks only, summed over the places of an entry; in inference there is none.
        Added to the losses of the model, the
        second output says by how much gradients are scaled (a LossScaleOptimizer), so that utilities are not.
        """
        # tf.gather on the variable reads the touched rows only; keras.ops.take would copy the pool first.
        if not is_training:
            chunks = tf.gather(self.pool.value, tf.gather(self.index.value, entries))
            return tf.reshape(tf.stop_gradient(chunks), [-1, self.dimension]), tf.zeros([])
        self._prune_if_due()
        self.pool.num_look_ups.value.assign_add(1)
        # Popular rows come many times in a batch: what is scattered over the pool is read, and summed, once.
        unique, position, num_accesses = tf.unique_with_counts(entries)
        addresses = tf.reshape(tf.gather(self.index.value, unique), [-1])
        pruned, live = tf.dynamic_partition(tf.range(tf.size(addresses)), tf.cast(addresses > 0, tf.int32), 2)

        # Without the pool inside: a custom gradient of a function with a variable reads all of the variable.
        @tf.custom_gradient
        def pad(live_chunks):
            zeros = tf.zeros([tf.size(pruned), self.chunk_width], live_chunks.dtype)
            padded = tf.dynamic_stitch([pruned, live], [zeros, live_chunks])

            def gradient(d_rows, d_zero):
                if isinstance(d_rows, tf.IndexedSlices):
                    d_rows = tf.math.unsorted_segment_sum(d_rows.values, d_rows.indices, tf.size(unique))
                of_chunks = tf.reshape(d_rows, [-1, self.chunk_width])
                scale = tf.where(d_zero == 0, tf.ones_like(d_zero), d_zero)
                updates = self._update_utilities(unique, num_accesses, of_chunks, scale)
                # A function that is differentiated from outside runs only what its gradients depend on.
                with tf.control_dependencies(updates):
                    return tf.gather(of_chunks, live)

            return (tf.reshape(padded, [-1, self.dimension]), tf.zeros([])), gradient

        rows, zero = pad(tf.gather(self.pool.value, tf.gather(addresses, live)))
        return tf.gather(rows, position), zero

    def _update_utilities(self, entries, num_accesses, gradients, scale) -> list[Any]:
        """u = gamma u + a g for one step: [U] entries, their accesses, [U * K, w] summed gradients and what scaled these."""
        step = self.steps.value.assign_add(1)
        gains = tf.cast(num_accesses, tf.float32)[:, tf.newaxis]
        if self.config.utility == "gradient":
            norms = tf.sqrt(tf.reduce_sum(tf.square(tf.cast(gradients, tf.float32) / scale), axis=1))
            # Gradients that overflowed are no steps of the optimizer either.
            norms = tf.where(tf.math.is_finite(norms), norms, 0.0)
            gains *= tf.reshape(norms, [-1, self.config.chunks])
        else:
            gains = tf.repeat(gains, self.config.chunks, axis=1)
        gains /= self._decay_since_rescaling(tf.convert_to_tensor(step))
        # Entries are distinct: to read and write them takes half of what a ResourceScatterAdd does.
        gains += tf.gather(self.utilities.value, entries)
        handle = self.utilities.value.handle
        update = tf.raw_ops.ResourceScatterUpdate(resource=handle, indices=entries, updates=gains)
        return [] if update is None else [update]  # None in eager code

    def _decay_since_rescaling(self, step) -> tf.Tensor:
        """gamma^n: what stored utilities are to be multiplied by."""
        num_steps = tf.cast(step - self.rescaled_at.value, tf.float64)
        return tf.cast(tf.constant(self.config.decay, tf.float64) ** num_steps, tf.float32)

    def current_utilities(self) -> tf.Tensor:
        """u of each chunk of each entry, [E, K]."""
        return self.utilities.value * self._decay_since_rescaling(self.steps.value)

    def _prune_if_due(self) -> None:
        def rescale():
            self.utilities.value.assign(self.current_utilities())
            self.rescaled_at.value.assign(self.steps.value)
            return True

        def prune():
            self.prune()
            return True

        steps = self.steps.value
        tf.cond(steps - self.rescaled_at.value >= self._steps_to_rescale, rescale, lambda: False)
        tf.cond(steps - self.pruned_at.value >= self.config.period, prune, lambda: False)

    def prune(self) -> None:
        """Evicts and allocates chunks by their utilities, now (Algorithm 1); training does it every `period` steps."""
        seed = tf.identity(self.prune_seed.value)
        utilities = self.current_utilities()
        if self.config.feature_share:
            utilities = mix_with_means(utilities, self.starts, self.config.feature_share)
        thresholds = choose_thresholds(utilities, self.ratios, self.config.sample_size, seed * [1, 2])
        addresses = tf.reshape(self.index.value, [-1])
        num_free = tf.identity(self.num_free.value)
        is_live = tf.reshape(addresses > 0, [-1, self.config.chunks])
        evicted, allocated, num_dropped = choose_changes(utilities, is_live, thresholds, num_free)
        num_evicted, num_allocated = tf.size(evicted), tf.size(allocated)

        self.free.value.scatter_update(
            tf.IndexedSlices(tf.gather(addresses, evicted), num_free + tf.range(num_evicted))
        )
        num_free += num_evicted
        taken = self.free.value[num_free - num_allocated : num_free]
        self.num_free.value.assign(num_free - num_allocated)
        addresses = tf.tensor_scatter_nd_update(addresses, evicted[:, tf.newaxis], tf.zeros_like(evicted, tf.int32))
        addresses = tf.tensor_scatter_nd_update(addresses, allocated[:, tf.newaxis], taken)
        self.index.value.assign(tf.reshape(addresses, self.index.shape))

        shape = [num_allocated, self.chunk_width]
        values = tf.random.stateless_normal(shape, seed * [1, 2] + [0, 1], stddev=self.stddev, dtype=self.pool.dtype)
        self.pool.value.scatter_update(tf.IndexedSlices(values, taken))
        self.pool.is_fresh.value.scatter_update(tf.IndexedSlices(tf.ones_like(taken, tf.bool), taken))
        self.pool.num_fresh.value.assign_add(num_allocated)
        self.counts.value.assign_add(tf.cast(tf.stack([num_evicted, num_allocated, num_dropped]), tf.int64))
        self.prune_seed.value.assign_add([0, 1])
        self.pruned_at.value.assign(self.steps.value)

    # What follows is eager.

    def start_with(self, num_chunks: Sequence[float]) -> None:
        """Gives rows their first chunks before training: so many on average for each table, as far as the pool reaches."""
        quotas = [
            [int(size * min(max(count - chunk, 0.0), 1.0)) for chunk in range(self.config.chunks)]
            for size, count in zip(self.table_sizes, num_chunks, strict=True)
        ]
        index, free = self._allocate_first(quotas)
        self.index.assign(index)
        self.free.assign(free)
        self.num_free.assign(self.num_slots - np.count_nonzero(index))

    def rows(self) -> np.ndarray:
        """All embeddings, [rows, D], pruned chunks as zeros: as much memory as uniform tables take."""
        entries = self.entries_of(tf.range(self.num_rows, dtype=tf.int64))
        return self.look_up(entries, False)[0].numpy()

    def live_chunks(self) -> np.ndarray:
        """Live chunks of each row, int [rows]."""
        entries = self.entries_of(tf.range(self.num_rows, dtype=tf.int64))
        return np.count_nonzero(self.index.numpy(), axis=1)[entries.numpy()]

    def summary(self) -> dict[str, int]:
        """What is in use, what changed hands so far (see `ChunkedEmbedding.summary`), and bytes."""
        num_free = int(self.num_free.numpy())
        counts = dict(zip(COUNTS, self.counts.numpy().tolist(), strict=True))
        size = sum(int(np.prod(v.shape)) * tf.as_dtype(v.dtype).size for v in self.variables)
        return {"slots": self.num_slots, "used": self.num_slots - num_free, "bytes": size, **counts}
