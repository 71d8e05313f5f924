"""Fields: what a field may be."""

import pytest

from keras_dimgrow import Field


def test_a_field_may_be_removed_and_reach_32_dimensions_by_default():
    field = Field(name="city", vocabulary_size=2)

    assert (field.min_dim, field.max_dim) == (0, 32)


@pytest.mark.parametrize(
    ("min_dim", "max_dim", "expected"), [(0, 32, True), (2, 3, True), (2, 2, False), (1, 1, False)]
)
def test_a_field_with_one_possible_dimension_is_not_searched(min_dim, max_dim, expected):
    assert Field(name="city", vocabulary_size=5, min_dim=min_dim, max_dim=max_dim).is_searched is expected


def test_only_a_field_with_exactly_one_value_a_row_is_plain():
    assert Field(name="city", vocabulary_size=5).is_plain
    assert not Field(name="city", vocabulary_size=5, missing_id=0).is_plain
    assert not Field(name="city", vocabulary_size=5, combiner="sum").is_plain


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "", "vocabulary_size": 5}, "A field needs a name"),
        (
            {"name": "city", "vocabulary_size": 1},
            r"Field 'city': vocabulary_size must be >= 2; received 1\. .* leave it out",
        ),
        ({"name": "city", "vocabulary_size": 5, "min_dim": -1}, "Field 'city': min_dim must be >= 0; received -1"),
        ({"name": "city", "vocabulary_size": 5, "max_dim": 0}, r"Field 'city': max_dim must be >= max\(1, min_dim\)"),
        (
            {"name": "city", "vocabulary_size": 5, "min_dim": 4, "max_dim": 2},
            r"received max_dim=2, min_dim=4\. Raise max_dim or lower min_dim",
        ),
        (
            {"name": "tags", "vocabulary_size": 5, "combiner": "max"},
            r"Field 'tags': combiner must be one of \('mean', 'sum', 'sqrtn'\) or None; received 'max'",
        ),
        (
            {"name": "tags", "vocabulary_size": 5, "weights": "scores"},
            r"Field 'tags': weights='scores' need a combiner: .* Add combiner=\"mean\"",
        ),
    ],
)
def test_an_impossible_field_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Field(**arguments)
