"""Which columns a plan keeps: the highest scores that fit."""

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from keras_dimgrow import Field
from keras_dimgrow.methods.columns import keep_best_columns


def fields(*sizes, **options):
    return [Field(name=f"f{i}", vocabulary_size=size, **options) for i, size in enumerate(sizes)]


def cost(dims, tables):
    return sum(dim * table.vocabulary_size for dim, table in zip(dims, tables, strict=True))


@st.composite
def scored_tables(draw):
    tables, scores = [], []
    for i in range(draw(st.integers(1, 5))):
        num_columns = draw(st.integers(1, 5))
        min_dim = draw(st.integers(0, num_columns))
        tables.append(
            Field(name=f"f{i}", vocabulary_size=draw(st.integers(2, 30)), min_dim=min_dim, max_dim=num_columns)
        )
        scores.append(np.array(draw(st.lists(st.integers(0, 4), min_size=num_columns, max_size=num_columns)), float))
    return tables, scores


@hypothesis.given(scored_tables(), st.integers(1, 400))
def test_a_budget_is_kept_whole_or_refused(scored, budget):
    tables, scores = scored
    needed = max(cost([t.min_dim for t in tables], tables), min(t.vocabulary_size for t in tables))
    if any(t.min_dim for t in tables):
        needed = cost([t.min_dim for t in tables], tables)

    if budget < needed:
        with pytest.raises(ValueError, match="Raise parameter_budget"):
            keep_best_columns(scores, tables, budget, 0.0)
        return
    dims = keep_best_columns(scores, tables, budget, 0.0)

    assert cost(dims, tables) <= budget
    assert any(dims)
    for dim, table, of_table in zip(dims, tables, scores, strict=True):
        assert table.min_dim <= dim <= len(of_table)
        # No column that is left out fits any more.
        assert dim == len(of_table) or cost(dims, tables) + table.vocabulary_size > budget


@hypothesis.given(scored_tables(), st.integers(1, 400), st.integers(0, 100))
def test_a_larger_budget_never_gives_fewer_parameters(scored, budget, more):
    tables, scores = scored
    try:
        small = keep_best_columns(scores, tables, budget, 0.0)
    except ValueError:
        hypothesis.reject()

    assert cost(keep_best_columns(scores, tables, budget + more, 0.0), tables) >= cost(small, tables)


@hypothesis.given(scored_tables())
def test_without_a_budget_the_columns_above_the_threshold_are_kept(scored):
    tables, scores = scored

    dims = keep_best_columns(scores, tables, None, 2.0)

    expected = [max(t.min_dim, int((s > 2.0).sum())) for t, s in zip(tables, scores, strict=True)]
    assert dims == expected or (not any(expected) and sum(dims) == 1)


def test_columns_are_taken_from_the_highest_score_down_and_one_that_does_not_fit_is_skipped():
    scores = [np.array([9.0, 7.0]), np.array([8.0, 1.0]), np.array([6.0, 5.0])]

    # 50 for 9.0; 40 for 8.0; 7.0 would take 50 of the 30 that are left; 10 each for 6.0 and 5.0.
    assert keep_best_columns(scores, fields(50, 40, 10), 120, 0.0) == [1, 1, 2]


def test_min_dim_comes_first_and_takes_the_best_columns_of_its_table():
    tables = [Field(name="a", vocabulary_size=10), Field(name="b", vocabulary_size=10, min_dim=1)]

    assert keep_best_columns([np.array([5.0, 4.0]), np.array([0.0, 4.5])], tables, 20, 0.0) == [1, 1]
    assert keep_best_columns([np.array([5.0, 4.0]), np.array([0.0, 4.5])], tables, 30, 0.0) == [2, 1]


def test_the_best_column_stays_when_none_is_above_the_threshold():
    assert keep_best_columns([np.array([0.1, 0.2]), np.array([0.3, 0.0])], fields(9, 9), None, 0.5) == [0, 1]


def test_a_budget_below_every_table_is_refused_with_the_least_that_works():
    with pytest.raises(ValueError, match=r"The smallest table takes 10 parameters .* received a budget of 9"):
        keep_best_columns([np.zeros(2), np.zeros(2)], fields(50, 10), 9, 0.0)


def test_a_budget_below_min_dim_is_refused():
    with pytest.raises(ValueError, match="min_dim of all fields take 60 parameters; received a budget of 59"):
        keep_best_columns([np.zeros(2), np.zeros(2)], fields(50, 10, min_dim=1), 59, 0.0)
