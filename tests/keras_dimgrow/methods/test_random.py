"""Random search: what it draws keeps budget and bounds, and what it returns had the lowest held-out loss."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_dimgrow import Field, ModelConfig, search
from keras_dimgrow.methods import SearchProblem
from keras_dimgrow.methods.random_search import RandomConfig, draw_plans, draw_within

MODEL = ModelConfig(backbone="fm", adapter_width=4)


def run(planted, **options):
    options = {"config": RandomConfig(num_plans=2, epochs=2.0, max_steps=6), "model_config": MODEL, "seed": 1} | options
    return search(
        planted.fields, planted.batches(is_shuffled=False), planted.batches(512, False), method="random", **options
    )


@pytest.fixture(scope="module")
def result(planted):
    return run(planted, parameter_budget=400)


# The search.


def test_the_plan_with_the_lowest_held_out_loss_is_kept(result):
    losses = [record["validation_loss"] for record in result.trajectory]

    assert len({tuple(record["dimensions"].values()) for record in result.trajectory}) == 2
    assert result.plan.dimensions == result.trajectory[int(np.argmin(losses))]["dimensions"]


def test_records_say_what_was_trained_and_how_large_it_was(result):
    assert [record["step"] for record in result.trajectory] == [6, 12]
    for record in result.trajectory:
        d = record["dimensions"]
        assert record["parameters"] == 8 * d["left"] + 64 * d["noise"] + 8 * d["right"] <= 400
        assert record["table_bytes"] == 3 * 4 * record["parameters"]
        assert 0 < record["loss"] < 1
    assert result.peak_table_bytes == max(record["table_bytes"] for record in result.trajectory)


def test_the_same_seed_gives_the_same_search_and_each_record_is_reported(planted, result):
    reported = []
    config = RandomConfig(num_plans=1, epochs=2.0, max_steps=6)

    again = run(planted, parameter_budget=400, config=config, on_check=reported.append)

    assert reported == again.trajectory
    assert again.plan.dimensions == result.trajectory[0]["dimensions"]
    assert again.trajectory[0]["validation_loss"] == pytest.approx(result.trajectory[0]["validation_loss"], abs=1e-6)


def test_held_out_rows_are_needed(planted):
    with pytest.raises(ValueError, match=r"search\(method='random'\) judges dimensions on held-out rows"):
        search(planted.fields, planted.batches(), method="random")


# Draws.


def draws(fields, budget=None, seed=0, **options) -> list[list[int]]:
    problem = SearchProblem(fields=fields, train_data=None, max_parameters=budget)
    return draw_plans(problem, RandomConfig(**options), np.random.default_rng(seed))


def test_without_a_budget_dimensions_are_candidates_clipped_to_the_bounds_of_the_field():
    fields = (
        Field(name="any", vocabulary_size=10),
        Field(name="narrow", vocabulary_size=10, max_dim=10),
        Field(name="wide", vocabulary_size=10, min_dim=20),
    )

    found = [set(column) for column in zip(*draws(fields, num_plans=40), strict=True)]

    assert found == [{2, 8, 16, 24, 32}, {2, 8, 10}, {20, 24, 32}]


def test_plans_differ_and_the_drawing_ends_where_there_are_no_more():
    fields = (Field(name="a", vocabulary_size=10), Field(name="b", vocabulary_size=10))

    plans = draws(fields, candidates=(2, 8), num_plans=9)

    assert sorted(plans) == [[2, 2], [2, 8], [8, 2], [8, 8]]


def test_where_one_dimension_each_does_not_fit_random_fields_are_removed():
    fields = [Field(name=f"f{i}", vocabulary_size=100) for i in range(4)]

    plans = draws(fields, 200, num_plans=6)

    assert sorted(plans) == [[0, 0, 1, 1], [0, 1, 0, 1], [0, 1, 1, 0], [1, 0, 0, 1], [1, 0, 1, 0], [1, 1, 0, 0]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, r"random: one dimension for the smallest field takes 10 parameters; received a budget of 9\. Raise"),
        ({"min_dim": 2}, r"random: the fields' min_dim take 60 parameters; received a budget of 9\. Raise"),
    ],
)
def test_a_budget_for_nothing_is_refused(options, message):
    fields = [Field(name="a", vocabulary_size=10, **options), Field(name="b", vocabulary_size=20, **options)]

    with pytest.raises(ValueError, match=message):
        draws(fields, 9)


tables = st.lists(st.tuples(st.integers(2, 10**5), st.integers(0, 3), st.integers(3, 40)), min_size=1, max_size=8)


@settings(deadline=None)
@given(tables, st.floats(0.0, 1.0), st.integers(0, 99))
def test_draws_keep_the_budget_and_use_nine_tenths_of_it_where_they_can(rows, position, seed):
    fields = [
        Field(name=f"f{i}", vocabulary_size=size, min_dim=low, max_dim=high) for i, (size, low, high) in enumerate(rows)
    ]
    sizes = np.array([field.vocabulary_size for field in fields])
    least = sum(f.vocabulary_size * f.min_dim for f in fields) or sizes.min()
    budget = int(least + position * 16 * sizes.sum())

    dims = np.array(draw_within(fields, budget, 32, np.random.default_rng(seed)))

    used = int(dims @ sizes)
    assert 0 < used <= budget
    most = [max(f.min_dim, min(f.max_dim, 32)) for f in fields]
    assert all(f.min_dim <= dim <= high for f, dim, high in zip(fields, dims, most, strict=True))
    could_rise = (dims < most) & (used + sizes <= budget)
    assert used >= 0.9 * budget or not could_rise.any()


@pytest.mark.parametrize(
    "values",
    [
        {"num_plans": 0},
        {"candidates": ()},
        {"candidates": (0, 2)},
        {"epochs": 0.0},
        {"max_steps": 0},
        {"learning_rate": 0},
    ],
)
def test_settings_out_of_range_are_refused(values):
    with pytest.raises(ValueError, match=f"RandomConfig: {next(iter(values))} must be"):
        RandomConfig(**values)
