"""Weights of the gate penalty, against the closed forms of section 4.2.2."""

import numpy as np
import pytest

from keras_dimgrow.penalty import cost_weights, decay_weights, penalty_weights


def test_the_weight_of_dimension_k_is_one_over_k_plus_one_counted_from_one():
    np.testing.assert_allclose(decay_weights(4), [1 / 2, 1 / 3, 1 / 4, 1 / 5])


def test_a_dropped_dimension_weighs_nothing_and_does_not_count_in_the_position_of_the_next():
    weights = penalty_weights([np.array([1, 0, 1, 1]), np.array([0, 1])], [7, 7], cost_exponent=0.0)

    np.testing.assert_allclose(weights, [1 / 2, 0, 1 / 3, 1 / 4, 0, 1 / 2])


def test_a_field_without_dimensions_in_use_weighs_nothing():
    assert penalty_weights([np.zeros(3)], [9], cost_exponent=1.0).tolist() == [0, 0, 0]


@pytest.mark.parametrize(("exponent", "expected"), [(0.0, [1, 1]), (0.5, [0.5**0.5, 1.5**0.5]), (1.0, [0.5, 1.5])])
def test_the_cost_of_a_field_is_its_share_of_the_mean_vocabulary_to_the_exponent(exponent, expected):
    np.testing.assert_allclose(cost_weights([10, 30], exponent), expected)


def test_cost_and_position_multiply():
    weights = penalty_weights([np.ones(2), np.ones(1)], [10, 30], cost_exponent=1.0)

    np.testing.assert_allclose(weights, [0.5 / 2, 0.5 / 3, 1.5 / 2])


def test_large_vocabularies_do_not_overflow():
    assert np.isfinite(cost_weights([2**31, 2**40], 3.0)).all()
