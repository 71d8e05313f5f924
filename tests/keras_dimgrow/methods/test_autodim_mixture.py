"""The equations of AutoDim, against NumPy that transforms every candidate on every row."""

import numpy as np
import pytest
import tensorflow as tf

from keras_dimgrow.methods.autodim_mixture import (
    EPSILON,
    column_ranges,
    gumbel_softmax,
    linear_mixture,
    padded_mixture,
)

CANDIDATES = (2, 3, 5)
WIDTH = CANDIDATES[-1]
FIELDS, ROWS = 2, 40


def batch_norm(x):
    """Over the rows of [B, D]."""
    return (x - x.mean(0)) / np.sqrt(x.var(0) + EPSILON)


def some_embeddings(is_sharing: bool, rng) -> tuple[np.ndarray, list[tuple[int, int]]]:
    ranges = column_ranges(CANDIDATES, is_sharing)
    columns = ranges[-1][1]
    x = rng.normal(size=(FIELDS, ROWS, columns)) * rng.uniform(0.01, 3.0, columns) + rng.normal(size=columns)
    return x.astype("float32"), ranges


def some_weights(rng) -> np.ndarray:
    return rng.dirichlet(np.ones(len(CANDIDATES)), FIELDS).astype("float32")


def test_shared_candidates_are_the_first_columns_and_separate_ones_lie_side_by_side():
    assert column_ranges(CANDIDATES, is_sharing=True) == [(0, 2), (0, 3), (0, 5)]
    assert column_ranges(CANDIDATES, is_sharing=False) == [(0, 2), (2, 5), (5, 10)]


@pytest.mark.parametrize("is_sharing", [True, False])
def test_the_linear_mixture_is_equations_1_2_and_7(is_sharing):
    rng = np.random.default_rng(0)
    x, ranges = some_embeddings(is_sharing, rng)
    p = some_weights(rng)
    kernels = [rng.normal(size=(FIELDS, dim, WIDTH)).astype("float32") for dim in CANDIDATES]
    biases = rng.normal(size=(FIELDS, len(CANDIDATES), WIDTH))
    expected = np.zeros((FIELDS, ROWS, WIDTH))
    for f in range(FIELDS):
        for n, (start, end) in enumerate(ranges):
            transformed = x[f, :, start:end].astype("float64") @ kernels[n][f] + biases[f, n]
            expected[f] += p[f, n] * batch_norm(transformed)

    centred = tf.constant(x - x.mean(1, keepdims=True))
    mixture = linear_mixture(centred, [tf.constant(kernel) for kernel in kernels], tf.constant(p), ranges)

    np.testing.assert_allclose(tf.matmul(centred, mixture), expected, atol=1e-4)


@pytest.mark.parametrize("is_sharing", [True, False])
def test_the_padded_mixture_is_equations_3_4_and_7(is_sharing):
    rng = np.random.default_rng(1)
    x, ranges = some_embeddings(is_sharing, rng)
    p = some_weights(rng)
    expected = np.zeros((FIELDS, ROWS, WIDTH))
    for f in range(FIELDS):
        for n, (start, end) in enumerate(ranges):
            normalised = batch_norm(x[f, :, start:end].astype("float64"))
            expected[f] += p[f, n] * np.pad(normalised, [(0, 0), (0, WIDTH - (end - start))])

    centred = tf.constant(x - x.mean(1, keepdims=True))
    mixture = padded_mixture(centred, tf.constant(p), ranges, WIDTH)

    np.testing.assert_allclose(tf.matmul(centred, mixture), expected, atol=1e-4)


@pytest.mark.parametrize("transformation", ["linear", "padding"])
def test_one_candidate_alone_has_mean_0_and_variance_1_over_the_batch(transformation):
    rng = np.random.default_rng(2)
    x, ranges = some_embeddings(True, rng)
    centred = tf.constant(x - x.mean(1, keepdims=True))
    p = tf.constant([[0.0, 1.0, 0.0]] * FIELDS)
    if transformation == "linear":
        kernels = [tf.constant(rng.normal(size=(FIELDS, dim, WIDTH)), tf.float32) for dim in CANDIDATES]
        output = np.asarray(tf.matmul(centred, linear_mixture(centred, kernels, p, ranges)))
    else:
        output = np.asarray(tf.matmul(centred, padded_mixture(centred, p, ranges, WIDTH)))
        assert not output[:, :, CANDIDATES[1] :].any()  # the tail is padding
        output = output[:, :, : CANDIDATES[1]]

    np.testing.assert_allclose(output.mean(1), 0.0, atol=1e-5)
    # By its epsilon, BatchNorm leaves a little less than 1 of small variances.
    np.testing.assert_allclose(output.var(1), 1.0, atol=0.1)
    assert output.var(1).max() <= 1.0 + 1e-5


def test_a_field_whose_embeddings_are_all_equal_gives_zeros_and_finite_gradients():
    centred = tf.zeros((1, 8, 3))
    kernel = tf.Variable(tf.ones((1, 3, 3)))
    with tf.GradientTape() as tape:
        tape.watch(centred)
        mixture = linear_mixture(centred, [kernel[:, :2], kernel], tf.constant([[0.5, 0.5]]), [(0, 2), (0, 3)])
        output = tf.matmul(centred, mixture)

    assert not np.asarray(output).any()
    for gradient in tape.gradient(output, [centred, kernel]):
        assert np.isfinite(tf.convert_to_tensor(gradient)).all()


# Equation (6).


def draws(alpha, temperature: float, num_draws: int = 4000) -> np.ndarray:
    logits = tf.tile(tf.math.log([alpha]), [num_draws, 1])
    return np.asarray(gumbel_softmax(logits, tf.constant(temperature), tf.constant([3, 4])))


@pytest.mark.parametrize("temperature", [0.01, 0.5, 1.0, 100.0])
def test_gumbel_softmax_weights_sum_to_one(temperature):
    p = draws([0.1, 0.2, 0.7], temperature)

    assert (p >= 0.0).all()
    np.testing.assert_allclose(p.sum(1), 1.0, atol=1e-5)


def test_at_a_low_temperature_a_draw_is_nearly_one_hot_and_picks_candidates_as_alpha_says():
    alpha = [0.1, 0.2, 0.7]

    p = draws(alpha, 0.01)

    assert np.mean(p.max(1) > 0.99) > 0.97
    picked = np.bincount(p.argmax(1), minlength=3) / len(p)
    np.testing.assert_allclose(picked, alpha, atol=4 * np.sqrt(0.25 / len(p)))


def test_an_infinite_temperature_weighs_all_candidates_alike():
    np.testing.assert_array_equal(draws([0.1, 0.1, 0.1, 0.7], float("inf"), 5), np.full((5, 4), 0.25))


def test_noise_depends_on_the_seed_alone():
    logits, temperature = tf.zeros((3, 4)), tf.constant(1.0)
    first, again, other = (gumbel_softmax(logits, temperature, tf.constant(seed)) for seed in ([1, 2], [1, 2], [1, 3]))

    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, other)
