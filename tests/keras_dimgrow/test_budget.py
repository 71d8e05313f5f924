"""A budget is a share of uniform 16, a number of parameters, or bytes of the tables as they are served."""

import pytest

from keras_dimgrow import EmbeddingPlan, Field
from keras_dimgrow.budget import parse_budget

FIELDS = (Field(name="user", vocabulary_size=700), Field(name="hour", vocabulary_size=300))
UNIFORM = 16 * 1000


@pytest.mark.parametrize("share", [0.05, 0.1, 0.3, 0.7, 0.9, 1.0])
def test_a_float_is_a_share_of_uniform_16(share):
    assert parse_budget(share, FIELDS) == round(share * UNIFORM)


@pytest.mark.parametrize("parameters", [1, 3000, 10**12])
def test_an_int_is_a_number_of_parameters(parameters):
    assert parse_budget(parameters, FIELDS) == parameters


def test_one_is_a_share_as_a_float_and_a_parameter_as_an_int():
    assert (parse_budget(1.0, FIELDS), parse_budget(1, FIELDS)) == (UNIFORM, 1)


@pytest.mark.parametrize(
    ("size", "num_bytes"),
    [
        ("4B", 4),
        ("10kB", 10**4),
        ("10 KB", 10**4),
        ("10KiB", 10 * 2**10),
        ("64MB", 64 * 10**6),
        ("64mb", 64 * 10**6),
        ("1.5MiB", 3 * 2**19),
        (" 2 GB ", 2 * 10**9),
        ("1GiB", 2**30),
    ],
)
def test_a_text_is_a_size_of_float32_tables(size, num_bytes):
    assert parse_budget(size, FIELDS) == num_bytes // 4


def test_a_share_that_is_no_whole_number_of_parameters_is_rounded_down():
    assert parse_budget(0.1, [Field(name="a", vocabulary_size=2)]) == 3
    assert parse_budget("7B", FIELDS) == 1


@pytest.mark.parametrize(
    "budget", [0, -5, 0.0, -0.1, 1.0001, 2.5, float("nan"), float("inf"), True, None, [], "", "64", "MB", "-1MB"]
)
def test_what_is_no_budget_is_refused_with_what_would_be_one(budget):
    with pytest.raises(ValueError, match=r"must be a share in \(0.0, 1.0\] of the uniform model's parameters") as error:
        parse_budget(budget, FIELDS)

    assert str(error.value).endswith(f'or a size such as "64MB"; received {budget!r}.')


@pytest.mark.parametrize("budget", ["3B", "0MB", 1e-6])
def test_a_budget_for_no_parameter_at_all_is_refused(budget):
    with pytest.raises(
        ValueError, match=rf"at least one of the uniform model's {UNIFORM} parameters; received {budget!r}"
    ):
        parse_budget(budget, FIELDS)


def test_a_shared_table_counts_once():
    fields = (
        Field(name="item", vocabulary_size=300, table="items"),
        Field(name="history", vocabulary_size=300, table="items", combiner="mean"),
        FIELDS[0],
    )

    assert parse_budget(1.0, fields) == UNIFORM
    assert parse_budget(0.5, EmbeddingPlan.uniform(fields, 2).fields) == UNIFORM // 2
