"""Adapters: from embeddings of unequal dimensions to the fixed width that a backbone needs (section 4.2.1)."""

import tensorflow as tf

ADAPTERS = ("joint", "per_field")


def adapt_jointly(q: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    """h = Q W_adapt: [B, d_sum] x [d_sum, width] -> [B, width]; the paper's adapter."""
    return tf.matmul(q, kernel)


def adapt_per_field(q: tf.Tensor, kernel: tf.Tensor, owners: tf.Tensor, num_fields: int) -> tf.Tensor:
    """h_i = e_i W_i for each field: [B, d_sum] x [d_sum, width] -> [B, F, width], for FM-like backbones.

    Args:
        owners: index of the field that each row of `kernel` belongs to, shape [d_sum]. A field without rows gets zeros.
        num_fields: F.

    One matrix product with the block matrix of all W_i: dimensions grow without a change to the graph.
    """
    width = kernel.shape[1]
    blocks = tf.one_hot(owners, num_fields, dtype=kernel.dtype)[:, :, tf.newaxis] * kernel[:, tf.newaxis, :]
    return tf.reshape(tf.matmul(q, tf.reshape(blocks, [-1, num_fields * width])), [-1, num_fields, width])


def adapted_shape(batch_size, adapter: str, num_fields: int, width: int) -> tuple:
    """Static shape of an adapter's output."""
    return (batch_size, width) if adapter == "joint" else (batch_size, num_fields, width)


def validate_adapter(adapter: str, width: int) -> None:
    """Raises ValueError for an unknown adapter or a width below 1."""
    if adapter not in ADAPTERS:
        raise ValueError(f"adapter must be one of {ADAPTERS}; received {adapter!r}.")
    if width < 1:
        raise ValueError(f"adapter_width must be >= 1; received {width}.")
