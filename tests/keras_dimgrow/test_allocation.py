import itertools
import logging

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_dimgrow import allocation
from keras_dimgrow.allocation import allocate, concave_majorant

# Dyadic values: sums are exact, so that ties are ties in the reference, too.
CURVES = st.lists(st.integers(-64, 64).map(lambda n: n / 8), min_size=1, max_size=5).map(np.array)


def brute_force(utilities, costs, budget, minimum):
    """(utility, parameters) of the best choice: most utility, then fewest parameters."""
    choices = itertools.product(*(range(least, len(curve)) for least, curve in zip(minimum, utilities, strict=True)))
    values = [
        (value(utilities, choice), -np.dot(choice, costs)) for choice in choices if np.dot(choice, costs) <= budget
    ]
    return max(values)


def value(utilities, dimensions):
    return sum(curve[dim] for curve, dim in zip(utilities, dimensions, strict=True))


def dynamic_programme(utilities, costs, budget):
    """The most utility within each number of parameters, a cell a parameter."""
    best = np.zeros(budget + 1)
    for curve, cost in zip(utilities, costs, strict=True):
        options = np.full((len(curve), budget + 1), -np.inf)
        for dim, utility in enumerate(curve[: budget // cost + 1]):
            options[dim, dim * cost :] = best[: budget + 1 - dim * cost] + utility
        best = options.max(0)
    return best


@st.composite
def problems(draw):
    num_tables = draw(st.integers(1, 4))
    utilities = [draw(CURVES) for _ in range(num_tables)]
    costs = [draw(st.integers(1, 12)) for _ in range(num_tables)]
    minimum = [draw(st.integers(0, len(curve) - 1)) for curve in utilities]
    return utilities, costs, int(np.dot(costs, minimum)) + draw(st.integers(0, 60)), minimum


@given(problems())
@settings(max_examples=300, deadline=None)
def test_allocation_is_the_best_of_all_choices_with_fewest_parameters(problem):
    utilities, costs, budget, minimum = problem

    dimensions = allocate(utilities, costs, budget, minimum)

    assert (value(utilities, dimensions), -np.dot(dimensions, costs)) == brute_force(*problem)
    assert (dimensions >= minimum).all()
    assert np.dot(dimensions, costs) <= budget


@pytest.mark.parametrize("shape", ["concave", "rising", "wandering", "proportional"])
@pytest.mark.parametrize("budget", [40, 700, 2500])
def test_allocation_of_many_tables_equals_a_dynamic_programme_over_parameters(shape, budget):
    rng = np.random.default_rng(budget)
    costs = rng.integers(1, 40, 30)
    steps = rng.exponential(size=(30, 32)) * rng.lognormal(0, 2, (30, 1))
    if shape == "concave":
        steps = -np.sort(-steps, axis=1)
    elif shape == "wandering":
        steps = rng.normal(size=steps.shape)
    elif shape == "proportional":
        steps = np.repeat(costs[:, None], 32, axis=1).astype(float)
    utilities = np.pad(np.cumsum(steps, axis=1), ((0, 0), (1, 0)))

    dimensions = allocate(list(utilities), costs.tolist(), budget)

    assert value(utilities, dimensions) == pytest.approx(dynamic_programme(utilities, costs, budget)[-1], rel=1e-11)
    assert np.dot(dimensions, costs) <= budget


def test_more_budget_is_never_worth_less():
    rng = np.random.default_rng(0)
    costs = [4, 400_000, 1_000, 37, 90_000, 300_000]
    utilities = [np.pad(np.cumsum(rng.exponential(size=32)), (1, 0)) for _ in costs]

    values = [value(utilities, allocate(utilities, costs, budget)) for budget in range(0, 26_000_000, 500_000)]

    assert values[0] == 0.0
    assert values == sorted(values)
    assert values[-1] == pytest.approx(sum(curve[-1] for curve in utilities))


def test_dimensions_that_add_nothing_are_not_taken():
    utilities = [np.array([0.0, 1.0, 1.0, 0.5]), np.array([0.0, 0.0, -1.0])]
    assert allocate(utilities, [10, 10], 1000).tolist() == [1, 0]


def test_a_minimum_is_kept_where_it_is_worth_less_than_nothing():
    assert allocate([np.array([0.0, -1.0, -2.0, 5.0]), np.zeros(4)], [10, 1], 25, minimum=[1, 2]).tolist() == [1, 2]


def test_equal_tables_give_the_same_choice_each_time():
    utilities = [np.array([0.0, 1.0])] * 6
    first = allocate(utilities, [5] * 6, 17)
    assert first.sum() == 3
    assert all(np.array_equal(first, allocate(utilities, [5] * 6, 17)) for _ in range(3))


def test_costs_of_millions_are_counted_to_the_last_parameter():
    costs = [20_000_000, 19_999_999]
    utilities = [np.array([0.0, 1.0]), np.array([0.0, 1.0])]
    assert allocate(utilities, costs, 39_999_999).tolist() == [1, 1]
    assert allocate(utilities, costs, 39_999_998).tolist() == [0, 1]


def test_too_many_equal_choices_miss_the_optimum_by_no_more_than_is_logged(monkeypatch, caplog):
    rng = np.random.default_rng(0)
    costs = rng.integers(10_000_000, 50_000_000, 12)
    utilities = [np.arange(9.0) * cost for cost in costs]
    budget = int(costs.sum() * 3.3)
    monkeypatch.setattr(allocation, "_MAX_CHOICES", 50)

    with caplog.at_level(logging.WARNING):
        dimensions = allocate(utilities, costs.tolist(), budget)

    slack = float(caplog.messages[-1].rsplit(" by ", 1)[1].split()[0])
    assert budget * (1 - slack) * (1 - 1e-9) <= value(utilities, dimensions) <= budget


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([np.zeros(3)], [10], 15, [2]), "minimum alone takes 20 parameters; received budget=15"),
        (([np.zeros(3)], [10, 10], 15), "1 curves, 2 costs"),
        (([], [], 15), "0 curves"),
        (([np.array([0.0, np.nan])], [10], 15), "table 0 needs finite utilities"),
        (([np.zeros(3)], [0], 15), "cost=0"),
        (([np.zeros(3)], [10], 100, [3]), "minimum=3"),
        (([np.zeros(0)], [10], 100), "table 0"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        allocate(*arguments)


@given(CURVES)
@settings(deadline=None)
def test_majorant_is_the_least_rising_concave_curve_above_the_values(values):
    majorant = concave_majorant(values)

    steps = np.diff(majorant)
    assert (majorant >= values - 1e-12).all()
    assert (steps >= 0).all()
    assert (np.diff(steps) <= 1e-12).all()
    # Least: between two of the values that it touches it is a straight line, and flat after the last of them.
    touched = np.flatnonzero(np.isclose(majorant, values, atol=1e-12))
    assert touched[0] == 0
    np.testing.assert_allclose(majorant, np.interp(np.arange(len(values)), touched, values[touched]), atol=1e-12)


def test_majorant_of_a_concave_curve_is_the_curve():
    curve = np.log1p(np.arange(20.0))
    np.testing.assert_allclose(concave_majorant(curve), curve, atol=1e-12)
