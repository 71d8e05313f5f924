"""AutoDim's weighted sum of candidate embeddings (arXiv 2006.14827, equations (1) to (7)), many fields at a time.

BatchNorm after a linear map needs the map's output on no row: with x of mean m and covariance S, `W^T x + b` has mean
`W^T m + b` and variance `diag(W^T S W)`. So the sum over the candidates of a field,

    sum_n p_n (W_n^T x + b_n - mean_n) / s_n = (sum_n p_n W_n diag(1 / s_n))^T (x - m),  s_n = sqrt(variance_n + epsilon),

is one matrix for each field and step, and the bias, which BatchNorm takes away again, is no parameter. This is exact, and
spares the [B, F, N, d_N] numbers of the transformed candidates.

Letters: F fields, B batch, C columns looked up, N candidates, D = d_N.
"""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

EPSILON = 1e-5  # PyTorch's, in which the authors wrote; Keras's 1e-3 would drown embeddings that start at N(0, 0.01^2)


def gumbel_softmax(alpha_logits: tf.Tensor, temperature: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """p of equation (6) for logits [..., N] whose softmax is alpha; noise by the stateless `seed` (int [2]).

    An infinite temperature gives equal weights 1/N.
    """
    tiny = np.finfo("float32").tiny
    uniform = tf.random.stateless_uniform(tf.shape(alpha_logits), seed, minval=tiny)
    noise = -tf.math.log(-tf.math.log(uniform))
    return tf.nn.softmax((tf.nn.log_softmax(alpha_logits) + noise) / temperature)


def column_ranges(candidates: Sequence[int], is_sharing: bool) -> list[tuple[int, int]]:
    """First and last column + 1 of each candidate among those looked up (section 2.2.1).

    With weight sharing candidate n is the first d_n of d_N columns; separate candidates lie side by side.

    Example:
        >>> column_ranges((2, 4), is_sharing=True), column_ranges((2, 4), is_sharing=False)
        ([(0, 2), (0, 4)], [(0, 2), (2, 6)])
    """
    ends = np.cumsum(candidates).tolist()
    return [
        (0 if is_sharing else end - dim, dim if is_sharing else end) for dim, end in zip(candidates, ends, strict=True)
    ]


def linear_mixture(
    centred: tf.Tensor, kernels: Sequence[tf.Tensor], p: tf.Tensor, ranges: Sequence[tuple[int, int]]
) -> tf.Tensor:
    """The matrix [F, C, D] that gives the mixture of equations (1), (2) and (7) from centred embeddings [F, B, C].

    Args:
        centred: looked-up embeddings minus their mean over the batch.
        kernels: W_n of each candidate, [F, d_n, D].
        p: weights of the candidates, [F, N].
        ranges: the columns of each candidate (`column_ranges`).
    """
    columns = centred.shape[-1]
    if all(start == 0 for start, _ in ranges):  # shared columns: one covariance has those of all candidates
        covariance = _covariance(centred)
        covariances = [covariance[:, start:end, start:end] for start, end in ranges]
    else:
        covariances = [_covariance(centred[:, :, start:end]) for start, end in ranges]
    scaled = []
    for index, (kernel, covariance, (start, end)) in enumerate(zip(kernels, covariances, ranges, strict=True)):
        # Rounding must not make a variance of nearly 0 negative.
        variance = tf.nn.relu(tf.reduce_sum(kernel * tf.matmul(covariance, kernel), axis=1))
        scale = p[:, index, tf.newaxis] * tf.math.rsqrt(variance + EPSILON)
        scaled.append(tf.pad(kernel * scale[:, tf.newaxis, :], [[0, 0], [start, columns - end], [0, 0]]))
    return tf.add_n(scaled)


def _covariance(centred: tf.Tensor) -> tf.Tensor:
    """Covariance over the batch: [F, B, C] -> [F, C, C]."""
    num_rows = tf.cast(tf.shape(centred)[1], centred.dtype)
    return tf.matmul(centred, centred, transpose_a=True) / num_rows


def padded_mixture(centred: tf.Tensor, p: tf.Tensor, ranges: Sequence[tuple[int, int]], width: int) -> tf.Tensor:
    """The matrix [F, C, D] that gives the mixture of equations (3), (4) and (7) from centred embeddings [F, B, C].

    Args: see `linear_mixture`; width: D, to which candidates are padded with zeros.
    """
    # places[n, c, d] is 1 where column c of candidate n comes to lie at position d.
    places = np.zeros((len(ranges), centred.shape[-1], width), "float32")
    for candidate, (start, end) in zip(places, ranges, strict=True):
        candidate[np.arange(start, end), np.arange(end - start)] = 1.0
    scale = tf.math.rsqrt(tf.reduce_mean(tf.square(centred), axis=1) + EPSILON)
    return scale[:, :, tf.newaxis] * tf.tensordot(p, tf.constant(places), 1)
