"""Searches that start from the plan of an earlier one."""

import numpy as np
import pytest
import tensorflow as tf

from keras_dimgrow import METHODS, EmbeddingPlan, Field, search
from keras_dimgrow.ledger import Ledger
from keras_dimgrow.methods import SearchProblem, dimgrow_race
from keras_dimgrow.methods.dimgrow import start_dims

FIELDS = (
    Field(name="user", vocabulary_size=100),
    Field(name="item", vocabulary_size=50, max_dim=4),
    Field(name="hour", vocabulary_size=24, min_dim=2),
    Field(name="new", vocabulary_size=10),
)
NOTHING = tf.data.Dataset.from_tensors(0)


def start_from(budget: int, limit: int | None = None, fields=FIELDS, **dims: int) -> list[int]:
    known = [Field(name=name, vocabulary_size=10) for name in dims]
    problem = SearchProblem(
        fields=fields, train_data=NOTHING, start=EmbeddingPlan.from_dimensions(known, dims) if dims else None
    )
    return start_dims(problem, budget, budget if limit is None else limit).tolist()


def test_tables_start_with_the_dimensions_of_the_earlier_plan_and_new_ones_with_one():
    assert start_from(10_000, user=7, item=3, hour=5) == [7, 3, 5, 1]


def test_bounds_of_a_field_hold_and_what_was_removed_starts_without_dimensions():
    assert start_from(10_000, user=0, item=9, hour=0) == [0, 4, 2, 1]


def test_fields_that_are_gone_do_not_count():
    assert start_from(10_000, gone=30, user=2, item=1, hour=2) == [2, 1, 2, 1]


def test_where_vocabularies_outgrew_the_limit_the_dearest_tables_give_dimensions_up():
    dims = start_from(400, user=6, item=4, hour=6)

    used = sum(field.vocabulary_size * dim for field, dim in zip(FIELDS, dims, strict=True))
    assert used <= 400
    assert dims[2] >= 2
    assert dims[0] < 6
    assert 100 * (dims[0] + 1) >= max(50 * dims[1], 24 * dims[2])  # no table gave up more than it had to


def test_without_a_start_every_table_that_fits_gets_one_dimension():
    assert start_from(10_000) == [1, 1, 2, 1]


@pytest.mark.parametrize("method", sorted(name for name, method in METHODS.items() if not method.takes_start))
def test_methods_that_cannot_start_from_a_plan_say_so(method):
    plan = EmbeddingPlan.uniform(FIELDS, 4)

    with pytest.raises(
        ValueError, match=rf"method='{method}'\) cannot start from a plan.*that can: dimgrow, previous\."
    ):
        search(FIELDS, NOTHING, method=method, start=plan)


def test_a_race_leaves_out_neighbours_that_have_no_dimension_left(monkeypatch):
    fields = FIELDS[:2]
    problem = SearchProblem(fields=fields, train_data=NOTHING)
    monkeypatch.setattr(dimgrow_race, "neighbours", lambda *args, **options: [np.array([0, 0]), np.array([1, 0])])

    plans = dimgrow_race.plans_within(problem, Ledger.at_start(fields, [1, 1]), problem.plan([1, 1]), 300)

    assert "neighbour 1" not in plans
    assert plans["neighbour 2"].dimensions["item"] == 0
    assert plans["uniform"].dimensions == {"user": 2, "item": 2}


@pytest.mark.parametrize(("budget", "expected"), [(None, [7, 3, 5, 1]), (10_000, [7, 3, 5, 1]), (700, [4, 3, 5, 1])])
def test_the_previous_plan_can_be_kept_within_the_budget_and_nothing_is_trained(budget, expected):
    plan = EmbeddingPlan.from_dimensions(FIELDS[:3], {"user": 7, "item": 3, "hour": 5})

    result = search(FIELDS, NOTHING, method="previous", parameter_budget=budget, start=plan)

    assert list(result.plan.dimensions.values()) == expected
    assert result.plan.fields[0].vocabulary_size == 100


def test_without_a_previous_plan_there_is_nothing_to_keep():
    with pytest.raises(
        ValueError, match=r"keeps the plan of an earlier search; received none\. Search once with another"
    ):
        search(FIELDS, NOTHING, method="previous")
