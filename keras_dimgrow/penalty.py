"""Weights of the gate penalty: per position of the dimension, and per size of the vocabulary (pure NumPy)."""

from collections.abc import Sequence

import numpy as np


def decay_weights(num_dims: int) -> np.ndarray:
    """1 / (k + 1) for k = 1 .. num_dims: the dimension-wise decaying penalty of section 4.2.2."""
    return 1.0 / (np.arange(1, num_dims + 1) + 1.0)


def cost_weights(vocabulary_sizes: Sequence[int], exponent: float) -> np.ndarray:
    """(V_i / mean V)^exponent: what a dimension of a field costs beside the others'; exponent 0 is the paper's form."""
    sizes = np.asarray(vocabulary_sizes, dtype=np.float64)
    return (sizes / sizes.mean()) ** exponent


def penalty_weights(masks: Sequence[np.ndarray], vocabulary_sizes: Sequence[int], cost_exponent: float) -> np.ndarray:
    """Weight of each allocated dimension's gate in `alpha * sum w * g`, fields concatenated, shape [D].

    Args:
        masks: per field, 1 for a dimension in use and 0 for one that was dropped, shape [allocated dims].
        vocabulary_sizes: V_i, one a field.
        cost_exponent: see `cost_weights`.

    A dropped dimension weighs 0 and does not count in the position k of those behind it.
    """
    costs = cost_weights(vocabulary_sizes, cost_exponent)
    weights = [
        cost * mask * decay_weights(len(mask))[np.maximum(np.cumsum(mask).astype(int) - 1, 0)]
        for cost, mask in zip(costs, masks, strict=True)
    ]
    return np.concatenate(weights).astype(np.float32)
