"""log_vocabulary and mixed_dimension: their closed forms, and the largest scale that the budget allows."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_dimgrow import Field, search
from keras_dimgrow.methods import METHODS, SearchProblem
from keras_dimgrow.methods.log_vocabulary import LogVocabularyConfig
from keras_dimgrow.methods.mixed_dimension import MixedDimensionConfig
from keras_dimgrow.methods.scaling import scale_to_budget

RULES = ("log_vocabulary", "mixed_dimension")


def fields_of(*sizes: int, **options) -> tuple[Field, ...]:
    return tuple(Field(name=f"f{i}", vocabulary_size=size, **options) for i, size in enumerate(sizes))


def dims(method: str, fields, budget=None, **settings) -> list[int]:
    config = METHODS[method].config(**settings)
    return list(search(fields, None, method=method, parameter_budget=budget, config=config).plan.dimensions.values())


# Closed forms.


def test_without_a_budget_log_vocabulary_gives_the_largest_table_the_maximum():
    assert dims("log_vocabulary", fields_of(10, 100, 10000)) == [4, 8, 16]
    assert dims("log_vocabulary", fields_of(10, 100, 10000), max_dimension=4) == [1, 2, 4]


def test_without_a_budget_mixed_dimension_gives_the_smallest_table_the_baseline_dimension():
    assert dims("mixed_dimension", fields_of(10, 160, 2560), alpha=0.5) == [16, 4, 1]
    assert dims("mixed_dimension", fields_of(10, 160, 2560), alpha=0.25) == [16, 8, 4]


def test_the_scale_is_the_largest_that_fits():
    # round(c), round(2 c), round(4 c): 2 of the last from c = 0.375, 3 from 0.625, 2 of the second from 0.75.
    fields = fields_of(10, 100, 10000)

    assert dims("log_vocabulary", fields, 10110) == [1, 1, 1]
    assert dims("log_vocabulary", fields, 20110) == [1, 1, 2]
    assert dims("log_vocabulary", fields, 30110) == [1, 1, 3]
    assert dims("log_vocabulary", fields, 30210) == [1, 2, 3]


def test_a_temperature_of_zero_is_uniform():
    assert dims("mixed_dimension", fields_of(10, 100, 10000), 3 * 10110 + 5000, alpha=0.0) == [3, 3, 3]


def test_powers_of_two_are_an_option():
    # sqrt(16 / V) times the scale: 16, 16 / sqrt(2) = 11.3, 16 / sqrt(6) = 6.5, 16 / sqrt(40) = 2.5.
    fields = fields_of(10, 20, 60, 400)

    assert dims("mixed_dimension", fields, alpha=0.5) == [16, 11, 7, 3]
    assert dims("mixed_dimension", fields_of(10, 21, 60, 400), alpha=0.5, use_powers_of_two=True) == [16, 8, 8, 2]


def test_a_share_of_one_gives_every_field_sixteen():
    for method in RULES:
        assert dims(method, fields_of(10, 100, 10000), 1.0) == [16, 16, 16]


# Fields of all kinds.


@pytest.mark.parametrize("method", RULES)
def test_bounds_of_fields_hold(method):
    fields = (
        Field(name="narrow", vocabulary_size=50, max_dim=3),
        Field(name="wide", vocabulary_size=60, min_dim=20),
        Field(name="fixed", vocabulary_size=70, min_dim=5, max_dim=5),
    )

    assert dims(method, fields, 1_000_000) == [3, 20, 5]
    assert dims(method, fields, 50 + 20 * 60 + 5 * 70) == [1, 20, 5]


@pytest.mark.parametrize("method", RULES)
def test_a_shared_table_counts_once_and_has_one_dimension(method):
    fields = [dataclasses.replace(field, table="t") for field in fields_of(100, 100)]

    assert dims(method, fields, 700) == [7, 7]


@pytest.mark.parametrize("method", RULES)
def test_a_budget_below_one_dimension_for_each_field_is_refused(method):
    with pytest.raises(ValueError, match=rf"{method}: one dimension .* takes 110 parameters; received .* 109\. Raise"):
        dims(method, fields_of(10, 100), 109)


@pytest.mark.parametrize(
    ("config", "values"),
    [
        (LogVocabularyConfig, {"max_dimension": 0}),
        (MixedDimensionConfig, {"max_dimension": 0}),
        (MixedDimensionConfig, {"alpha": 1.5}),
        (MixedDimensionConfig, {"use_powers_of_two": 2}),
    ],
)
def test_settings_out_of_range_are_refused(config, values):
    with pytest.raises(ValueError, match=f"{config.__name__}: {next(iter(values))} must be"):
        config(**values)


# Properties.

tables = st.lists(st.tuples(st.integers(2, 10**6), st.integers(0, 3), st.integers(3, 20)), min_size=1, max_size=8).map(
    lambda rows: tuple(
        Field(name=f"f{i}", vocabulary_size=size, min_dim=low, max_dim=high) for i, (size, low, high) in enumerate(rows)
    )
)


@settings(deadline=None)
@given(tables, st.floats(0.0, 1.0), st.sampled_from(RULES))
def test_the_budget_holds_and_more_budget_never_takes_a_dimension_away(fields, position, method):
    least = sum(f.vocabulary_size * max(1, f.min_dim) for f in fields)
    budget = least + int(position * sum(16 * f.vocabulary_size for f in fields))

    result = search(fields, None, method=method, parameter_budget=budget)
    smaller = result.plan_at(least + (budget - least) // 2)

    assert smaller.parameters <= least + (budget - least) // 2
    assert result.plan.parameters <= budget
    for field in fields:
        assert max(1, field.min_dim) <= smaller.dimensions[field.name] <= result.plan.dimensions[field.name]
        assert result.plan.dimensions[field.name] <= max(field.min_dim, min(field.max_dim, 16))


@settings(deadline=None)
@given(
    st.lists(st.integers(2, 1000), min_size=1, max_size=6),
    st.lists(st.integers(1, 50), min_size=6, max_size=6),
    st.floats(0.0, 1.0),
)
def test_no_larger_scale_fits(sizes, weights, position):
    weights = np.array(weights[: len(sizes)], float)
    sizes = np.array(sizes)
    budget = sizes.sum() + int(position * 15 * sizes.sum())
    problem = SearchProblem(fields=fields_of(*sizes), train_data=None, max_parameters=int(budget))

    found = np.array(scale_to_budget(problem, weights, 16, "rule"))

    # Just above each scale at which a dimension changes: the exact rule, by brute force.
    scales = np.unique([1e-9, *((np.arange(1, 16)[:, None] + 0.5) / weights).ravel()])
    rounded = np.clip(np.floor(scales[:, None] * (1 + 1e-12) * weights + 0.5), 1, 16).astype(int)
    fitting = rounded[rounded @ sizes <= budget]
    np.testing.assert_array_equal(found, fitting[-1])
