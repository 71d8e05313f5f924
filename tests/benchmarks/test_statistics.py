"""Standard errors, paired differences, interpolation and correlation, against numbers worked out by hand."""

import math

import pytest

from benchmarks.quality.statistics import difference, estimate, interpolate, mean_correlation


def test_standard_error_is_the_deviation_over_the_root_of_the_number():
    found = estimate([0.1, 0.2, 0.3, 0.4])

    assert found.mean == pytest.approx(0.25)
    assert found.error == pytest.approx(math.sqrt(0.05 / 3) / 2)


def test_one_value_has_no_standard_error():
    assert math.isnan(estimate([0.5]).error)


def test_difference_is_paired_where_the_seeds_are_the_same():
    paired = difference({0: 0.7, 1: 0.9}, {0: 0.6, 1: 0.8})

    assert paired.mean == pytest.approx(0.1)
    assert paired.error == pytest.approx(0.0, abs=1e-12)


def test_difference_without_pairs_adds_both_errors():
    found = difference({0: 0.7, 1: 0.9}, {0: 0.6, 1: 0.8, 2: 0.7})

    assert found.mean == pytest.approx(0.1)
    assert found.error == pytest.approx(math.hypot(0.1, 0.1 / math.sqrt(3)))


@pytest.mark.parametrize(
    ("parameters", "expected"), [(100, 0.5), (1000, 0.6), (10_000, 0.7), (10 ** (4 + 2 / 3), 0.76), (99, None)]
)
def test_uniform_is_interpolated_in_the_logarithm_of_parameters(parameters, expected):
    curve = [(10**5, 0.79), (100, 0.5), (10_000, 0.7)]

    assert interpolate(curve, parameters) == (None if expected is None else pytest.approx(expected))


def test_correlation_is_the_mean_over_pairs_of_plans():
    assert mean_correlation([[1, 2, 3], [2, 4, 6], [3, 2, 1]]) == pytest.approx((1 - 1 - 1) / 3)


def test_plans_of_equal_dimensions_correlate_only_if_they_are_the_same():
    assert mean_correlation([[2, 2], [2, 2]]) == 1.0
    assert mean_correlation([[2, 2], [1, 1]]) == 0.0
    assert mean_correlation([[2, 2]]) is None
