"""Shuffles of a batch, one permutation per dimension: the noise of the shuffle gate (arXiv 2505.12683, section 4.1).

Both functions take `s` of shape [B, D] and a stateless seed (int32 or int64 [2]) and return [B, D] in which column k is
column k of `s` with its rows permuted. Neither stops gradients: the gate does.
"""

import tensorflow as tf


def cyclic_shift(s: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Shifts each dimension by its own random offset in 1 .. B-1: a permutation without fixed points, in O(DB).

    Every row receives the value of another row, uniform among the others. The rows of one dimension move together, so
    it assumes shuffled batches. A batch of one row is returned as it is.
    """
    rows, dims = tf.shape(s)[0], tf.shape(s)[1]
    offsets = tf.random.stateless_uniform([dims], seed, minval=1, maxval=tf.maximum(rows, 2), dtype=tf.int32)
    # Each dimension twice in a row, so that a shifted one is B neighbours in memory; no modulo a value.
    transposed = tf.transpose(s)
    doubled = tf.reshape(tf.concat([transposed, transposed], axis=1), [-1])
    first = 2 * rows * tf.range(dims) + offsets
    shifted = tf.gather(doubled, first[:, tf.newaxis] + tf.range(rows))
    return tf.ensure_shape(tf.transpose(shifted), s.shape)


def random_permutation(s: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Algorithm 1 of the paper: an independent uniform permutation per dimension, in O(DB log B)."""
    transposed = tf.transpose(s)
    order = tf.argsort(tf.random.stateless_uniform(tf.shape(transposed), seed), axis=1)
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
