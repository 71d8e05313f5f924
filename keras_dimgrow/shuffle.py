"""Shuffles of a batch, one permutation per group of columns: the noise of the shuffle gate (arXiv 2505.12683, 4.1).

Both functions take `s` of shape [B, D] and a stateless seed (int32 or int64 [2]) and return [B, D] in which column k is
column k of `s` with its rows permuted. `groups` (int [D], ascending from 0) names the group of each column; the columns
of a group move together. None: each column moves by itself. Neither function stops gradients: the gate does.
"""

import tensorflow as tf

# Batches of at least so many rows are shifted by whole blocks: 8 values are copied at once, and there are 127 offsets.
MIN_ROWS_FOR_BLOCKS = 1024
BLOCK = 8


def cyclic_shift(s: tf.Tensor, seed: tf.Tensor, groups: tf.Tensor | None = None) -> tf.Tensor:
    """Shifts each dimension by its own random offset: a permutation without fixed points, in O(DB).

    It assumes shuffled batches: the rows of one dimension move together, and in a batch of at least 1024 rows that is a
    multiple of 8, offsets are multiples of 8, so that whole pieces of memory move (docs/decisions/0005). A batch of one
    row is returned as it is.
    """
    rows = tf.shape(s)[0]
    block = tf.where((rows % BLOCK == 0) & (rows >= MIN_ROWS_FOR_BLOCKS), BLOCK, 1)
    num_blocks, dims = rows // block, tf.shape(s)[1]
    num_groups = dims if groups is None else tf.reduce_max(groups) + 1
    offsets = tf.random.stateless_uniform(
        [num_groups], seed, minval=1, maxval=tf.maximum(num_blocks, 2), dtype=tf.int32
    )
    if groups is not None:
        offsets = tf.gather(offsets, groups)
    # Indices of blocks are few: to wrap them costs less than to lay each dimension out twice in a row.
    position = offsets[:, tf.newaxis] + tf.range(num_blocks)
    position = tf.where(position < num_blocks, position, position - num_blocks)
    position += num_blocks * tf.range(dims)[:, tf.newaxis]
    shifted = tf.gather(tf.reshape(tf.transpose(s), [-1, block]), position)
    return tf.ensure_shape(tf.transpose(tf.reshape(shifted, [dims, rows])), s.shape)


def random_permutation(s: tf.Tensor, seed: tf.Tensor, groups: tf.Tensor | None = None) -> tf.Tensor:
    """Algorithm 1 of the paper: an independent uniform permutation per group of columns, in O(DB log B)."""
    transposed = tf.transpose(s)
    num_groups = tf.shape(s)[1] if groups is None else tf.reduce_max(groups) + 1
    order = tf.argsort(tf.random.stateless_uniform([num_groups, tf.shape(s)[0]], seed), axis=1)
    if groups is not None:
        order = tf.gather(order, groups)
    return tf.ensure_shape(tf.transpose(tf.gather(transposed, order, batch_dims=1)), s.shape)


def add_shuffle_seed(layer, seed: int):
    """Adds to `layer` the counter that seeds its shuffles: int32 [2], saved with weights, unlike a SeedGenerator."""
    return layer.add_weight(
        shape=(2,),
        initializer=lambda shape, dtype: tf.constant([seed, 0], dtype),
        dtype="int32",
        trainable=False,
        aggregation="only_first_replica",
        name="shuffle_seed",
    )


def next_seed(shuffle_seed) -> tf.Tensor:
    """The seed of this step, int32 [2]; moves the counter on."""
    seed = tf.identity(shuffle_seed.value)
    shuffle_seed.assign_add([0, 1])
    return seed


SHUFFLES = {"cyclic": cyclic_shift, "permutation": random_permutation}
