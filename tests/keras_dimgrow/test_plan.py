"""EmbeddingPlan: sizes by the paper's formula, and a JSON that survives."""

import json

import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from keras_dimgrow import ChunkConfig, EmbeddingPlan, Field, PlannedField

planned_fields = st.builds(
    PlannedField,
    name=st.text(min_size=1, max_size=8),
    vocabulary_size=st.integers(2, 10**9),
    dimension=st.integers(0, 256),
    combiner=st.sampled_from([None, "mean", "sum", "sqrtn"]),
    missing_id=st.none() | st.integers(-1, 100),
)
plans = (
    st.lists(planned_fields, min_size=1, max_size=8, unique_by=lambda field: field.name)
    .filter(lambda fields: any(field.dimension for field in fields))
    .map(lambda fields: EmbeddingPlan(tuple(fields)))
)


def make_plan(**dimensions) -> EmbeddingPlan:
    fields = [Field(name=name, vocabulary_size=10 * (i + 1)) for i, name in enumerate(dimensions)]
    return EmbeddingPlan.from_dimensions(fields, dimensions)


@given(plans)
def test_a_plan_is_equal_after_a_round_trip_through_json(plan):
    assert EmbeddingPlan.from_dict(json.loads(json.dumps(plan.to_dict()))) == plan


@given(plans)
def test_sizes_follow_the_definition_of_section_3(plan):
    parameters = sum(f.vocabulary_size * plan.dimensions[f.name] for f in plan.fields)

    assert plan.parameters == parameters == sum(f.parameters for f in plan.kept_fields)
    assert plan.table_bytes() == 4 * parameters
    assert plan.total_dimensions == sum(plan.dimensions.values())
    assert plan.ratio_to_uniform(16) == pytest.approx(parameters / EmbeddingPlan.uniform(plan.fields, 16).parameters)


def test_a_plan_keeps_the_order_of_the_fields_and_drops_those_without_dimensions():
    plan = make_plan(b=2, a=0, c=1)

    assert list(plan.dimensions) == ["b", "a", "c"]
    assert [field.name for field in plan.kept_fields] == ["b", "c"]


def test_a_saved_plan_is_loaded_as_it_was(tmp_path):
    plan, path = make_plan(a=3, b=0), str(tmp_path / "plan.json")

    plan.save(path)

    assert EmbeddingPlan.load(path) == plan
    assert json.loads((tmp_path / "plan.json").read_text())["schema_version"] == 1


def test_how_ids_come_is_part_of_the_plan_and_defaults_are_not_written():
    fields = [
        Field(name="a", vocabulary_size=3, min_dim=1),
        Field(name="b", vocabulary_size=4, combiner="sum", weights="w", missing_id=0, table="t"),
    ]

    first, second = EmbeddingPlan.from_dimensions(fields, {"a": 1, "b": 2}).to_dict()["fields"]

    assert first == {"name": "a", "vocabulary_size": 3, "dimension": 1}
    assert second == {
        **{"name": "b", "vocabulary_size": 4, "dimension": 2},
        **{"combiner": "sum", "weights": "w", "missing_id": 0, "table": "t"},
    }


def test_saving_replaces_an_older_plan_and_leaves_no_temporary_file(tmp_path):
    path = str(tmp_path / "plan.json")
    make_plan(a=1).save(path)

    make_plan(a=2).save(path)

    assert EmbeddingPlan.load(path).dimensions == {"a": 2}
    assert [file.name for file in tmp_path.iterdir()] == ["plan.json"]


def test_an_interrupted_save_leaves_the_older_plan_whole(tmp_path, monkeypatch):
    path = str(tmp_path / "plan.json")
    make_plan(a=1).save(path)

    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(tf.io.gfile, "rename", interrupt)
    with pytest.raises(KeyboardInterrupt):
        make_plan(a=2).save(path)

    assert EmbeddingPlan.load(path).dimensions == {"a": 1}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "received schema_version=None"),
        ({"schema_version": 3, "fields": []}, "schema_version 1 or 2: received schema_version=3 and keys"),
        ({"schema_version": 1}, "Not an EmbeddingPlan of schema_version 1"),
        ({"schema_version": 1, "fields": []}, "at least one field"),
        ({"schema_version": 1, "fields": [{"name": "a", "size": 3}]}, "Not an EmbeddingPlan.*'size'"),
    ],
)
def test_what_is_no_plan_is_refused(values, message):
    with pytest.raises(ValueError, match=message):
        EmbeddingPlan.from_dict(values)


def test_a_plan_refuses_repeated_names():
    field = PlannedField(name="a", vocabulary_size=3, dimension=1)

    with pytest.raises(ValueError, match=r"Field names must be unique; received \['a', 'a'\]"):
        EmbeddingPlan((field, field))


def test_a_plan_keeps_at_least_one_field():
    with pytest.raises(ValueError, match="Every field has dimension 0"):
        make_plan(a=0, b=0)


def test_a_negative_dimension_is_refused():
    with pytest.raises(ValueError, match="Field 'a': dimension must be >= 0; received -1"):
        PlannedField(name="a", vocabulary_size=3, dimension=-1)


# Plans with chunks.


CHUNKS = ChunkConfig(chunks=2, pruning_ratio=None, parameter_budget=100)


def test_a_plan_with_chunks_counts_the_values_of_its_pool_and_comes_back_from_its_file(tmp_path):
    plan = make_plan(a=1, b=3, c=0).in_chunks(CHUNKS, dimension=4, min_rows=15)
    path = str(tmp_path / "plan.json")

    plan.save(path)

    assert EmbeddingPlan.load(path) == plan
    assert json.loads((tmp_path / "plan.json").read_text())["schema_version"] == 2


def test_only_large_tables_are_put_in_chunks_and_removed_fields_stay_removed():
    fields = [Field(name=str(size), vocabulary_size=size) for size in (10, 1000, 2000)]
    plan = EmbeddingPlan.from_dimensions(fields, {"10": 3, "1000": 6, "2000": 0})

    chunked = plan.in_chunks(ChunkConfig(chunks=2, pruning_ratio=0.75), dimension=4, min_rows=100)

    assert [field.name for field in chunked.chunked_fields] == ["1000"]
    assert [field.name for field in chunked.whole_fields] == ["10"]
    assert chunked.dimensions == {"10": 3, "1000": 4, "2000": 0}
    assert chunked.fields[1].start_dimension == 4
    assert chunked.parameters == 10 * 3 + 1000 * 4 // 4


def test_each_dimension_has_a_pool_and_a_shared_table_counts_once():
    fields = [
        PlannedField(name="a", vocabulary_size=10, dimension=4, is_chunked=True, table="t"),
        PlannedField(name="b", vocabulary_size=10, dimension=4, is_chunked=True, table="t"),
        PlannedField(name="c", vocabulary_size=20, dimension=8, is_chunked=True),
    ]

    plan = EmbeddingPlan(tuple(fields), ChunkConfig(chunks=2, pruning_ratio=0.5))

    assert plan.parameters == plan.pool_parameters == (10 * 4 + 20 * 8) // 2


@pytest.mark.parametrize(
    ("field", "chunks", "message"),
    [
        ({}, CHUNKS, r"A plan has chunks where it has fields in chunks.*is_chunked for \[\]"),
        ({"is_chunked": True}, None, "chunks=None and is_chunked for \\['a'\\]"),
        ({"is_chunked": True, "dimension": 3}, CHUNKS, "must divide its dimension; received chunks=2, dimension=3"),
        ({"is_chunked": True, "dimension": 0}, CHUNKS, "dimension=0"),
        ({"start_dimension": 1}, None, "start_dimension must be 0 to dimension, for a field in chunks"),
        ({"is_chunked": True, "start_dimension": 5}, CHUNKS, "received start_dimension=5, dimension=4"),
    ],
)
def test_chunks_that_do_not_fit_the_fields_are_refused(field, chunks, message):
    other = PlannedField(name="b", vocabulary_size=3, dimension=1)

    with pytest.raises(ValueError, match=message):
        EmbeddingPlan((PlannedField(**({"name": "a", "vocabulary_size": 3, "dimension": 4} | field)), other), chunks)


def test_a_threshold_above_every_table_is_refused():
    with pytest.raises(ValueError, match="received min_rows=100, and the largest that the plan keeps has"):
        make_plan(a=1).in_chunks(CHUNKS, min_rows=100)
