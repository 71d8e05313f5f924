"""Interactions of fields: pure functions of the adapted embeddings h, [B, F, k], F and k known."""

import keras
import numpy as np


def concat_fields(h):
    """All fields side by side: [B, F, k] -> [B, F k]."""
    return keras.ops.reshape(h, (-1, h.shape[1] * h.shape[2]))


def pool_pairs(h):
    """Bi-interaction pooling (He 2017, equations (3) and (4)): [B, F, k] -> [B, k], float32.

    `sum_{i<j} h_i * h_j = ((sum_i h_i)^2 - sum_i h_i^2) / 2`, in O(F k). Zeros for one field.
    """
    # The difference of two large squares: half precision would leave little of it.
    h = keras.ops.cast(h, "float32")
    return 0.5 * (keras.ops.square(keras.ops.sum(h, axis=1)) - keras.ops.sum(keras.ops.square(h), axis=1))


def sum_pair_products(h):
    """The pairwise term of a factorisation machine (Rendle 2010, lemma 3.1): [B, F, k] -> [B, 1], float32.

    `sum_{i<j} <h_i, h_j>`. Zeros for one field.
    """
    return keras.ops.sum(pool_pairs(h), axis=1, keepdims=True)


def pair_products(h):
    """`<h_i, h_j>` of all pairs i > j, row by row: [B, F, k] -> [B, F (F - 1) / 2]; no columns for one field."""
    num_fields = h.shape[1]
    rows, columns = np.tril_indices(num_fields, -1)
    products = keras.ops.matmul(h, keras.ops.transpose(h, (0, 2, 1)))
    products = keras.ops.reshape(products, (-1, num_fields * num_fields))
    return keras.ops.take(products, (rows * num_fields + columns).astype("int32"), axis=1)
