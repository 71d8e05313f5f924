import numpy as np
import pytest

from keras_dimgrow.allocation import allocate
from keras_dimgrow.neighbours import neighbours

COSTS = [400_000, 300_000, 90_000, 1_000, 24]
UTILITIES = [scale * (1 - np.exp(-np.arange(17) / 3.0)) for scale in (5.0, 4.0, 3.0, 2.0, 1.0)]
BUDGET = 2_000_000


def test_neighbours_fit_the_budget_and_force_one_dear_table_each():
    dimensions = allocate(UTILITIES, COSTS, BUDGET)
    found = neighbours(UTILITIES, COSTS, BUDGET, [0] * 5, dimensions, num_expensive=2)

    dearest = np.argsort(-np.array(COSTS) * dimensions)[:2]
    forced = [[i for i in dearest if abs(other[i] - dimensions[i]) == 1] for other in found]
    assert 2 <= len(found) <= 4
    assert all(forced)
    assert all(other @ np.array(COSTS) <= BUDGET for other in found)
    assert len({tuple(other) for other in (*found, dimensions)}) == len(found) + 1


def test_neighbours_are_the_best_with_the_forced_dimension():
    dimensions = allocate(UTILITIES, COSTS, BUDGET)
    first = int(np.argmax(np.array(COSTS) * dimensions))
    up = dimensions[first] + 1

    best = max(
        sum(curve[d] for curve, d in zip(UTILITIES[1:], rest, strict=True))
        for rest in np.ndindex(17, 17, 3, 3)
        if np.dot(rest, COSTS[1:]) + up * COSTS[0] <= BUDGET
    )
    found = neighbours(UTILITIES, COSTS, BUDGET, [0] * 5, dimensions)[0]

    assert first == 0
    assert found[0] == up
    value = sum(curve[d] for curve, d in zip(UTILITIES[1:], found[1:], strict=True))
    assert value >= best


def test_a_minimum_and_the_end_of_a_curve_are_not_passed():
    found = neighbours([np.arange(3.0), np.arange(3.0)], [10, 10], 40, [2, 0], [2, 2])
    assert [other.tolist() for other in found] == [[2, 1]]


@pytest.mark.parametrize("dimensions", [[0, 2], [1, 0]])
def test_a_removed_table_that_could_be_dear_is_tried_with_one_dimension(dimensions):
    removed = dimensions.index(0)
    found = neighbours([np.arange(3.0)] * 2, [10, 10], 20, [0, 0], dimensions)
    assert any(other[removed] == 1 for other in found)
