"""Adapters, against NumPy."""

import numpy as np
import pytest
import tensorflow as tf

from keras_dimgrow import adapters


@pytest.fixture
def q():
    return np.random.default_rng(0).normal(size=(5, 6))


@pytest.fixture
def kernel():
    return np.random.default_rng(1).normal(size=(6, 4))


def test_the_joint_adapter_is_q_times_w(q, kernel):
    np.testing.assert_allclose(adapters.adapt_jointly(tf.constant(q), tf.constant(kernel)), q @ kernel, rtol=1e-12)


@pytest.mark.parametrize(
    "owners",
    [[0, 0, 0, 1, 2, 2], [2, 2, 0, 0, 1, 1], [0, 2, 0, 2, 0, 2], [0, 0, 2, 2, 2, 2]],
    ids=["in order", "in another order", "interleaved", "a field without rows"],
)
def test_the_adapter_per_field_is_a_product_of_its_own_for_each_field(q, kernel, owners):
    adapted = adapters.adapt_per_field(tf.constant(q), tf.constant(kernel), tf.constant(owners), 3)

    for field in range(3):
        mine = np.flatnonzero(np.array(owners) == field)
        np.testing.assert_allclose(adapted[:, field], q[:, mine] @ kernel[mine], rtol=1e-12, atol=1e-14)


def test_the_fields_of_the_adapter_per_field_add_up_to_the_joint_one(q, kernel):
    adapted = adapters.adapt_per_field(tf.constant(q), tf.constant(kernel), tf.constant([0, 1, 1, 2, 2, 2]), 3)

    np.testing.assert_allclose(tf.reduce_sum(adapted, 1), q @ kernel, rtol=1e-12)


def test_shapes_of_the_outputs():
    assert adapters.adapted_shape(None, "joint", 3, 8) == (None, 8)
    assert adapters.adapted_shape(5, "per_field", 3, 8) == (5, 3, 8)


@pytest.mark.parametrize(
    ("adapter", "width", "message"),
    [("both", 8, r"adapter must be one of \('joint', 'per_field'\); received 'both'"), ("joint", 0, "adapter_width")],
)
def test_an_unknown_adapter_or_an_empty_width_is_refused(adapter, width, message):
    with pytest.raises(ValueError, match=message):
        adapters.validate_adapter(adapter, width)
