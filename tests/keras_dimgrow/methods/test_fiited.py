"""fiited and adaembed: budgets kept by pools, initial widths, models that need no retraining, and how they are stored."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_dimgrow import (
    METHODS,
    ChunkConfig,
    EmbeddingPlan,
    Field,
    ModelConfig,
    PlannedEmbedding,
    TrainingConfig,
    build_embedding,
    build_model,
    compare_storage,
    evaluate,
    retrain,
    search,
    with_storage,
)
from keras_dimgrow.methods.fiited import FIITEDConfig, training_bytes
from keras_dimgrow.optimizers import LazyAdam

FM = ModelConfig(backbone="fm", adapter_width=2)
JOINT = ModelConfig(adapter_width=4, hidden_units=(4,))
CONFIG = FIITEDConfig(
    dimension=4,
    chunking=ChunkConfig(period=2),
    initial="uniform",
    min_rows=10,
    training=TrainingConfig(max_epochs=2, learning_rate=0.05),
)
MANUAL = ChunkConfig(pruning_ratio=(0.5, 0.9))
BUDGET = 96  # left and right whole take 64


@pytest.fixture(scope="module")
def found(planted):
    """A search with two small tables whole, and its records as they came."""
    records = []
    batches = planted.batches(is_shuffled=False)
    result = search(
        planted.fields,
        batches.take(3),
        batches.skip(3),
        method="fiited",
        parameter_budget=BUDGET,
        config=CONFIG,
        model_config=FM,
        seed=1,
        on_check=records.append,
    )
    return result, records


def plan(planted, method="fiited", budget=BUDGET, **changes):
    """The plan without a training."""
    config = dataclasses.replace(CONFIG, is_trained=False, **changes)
    result = search(
        planted.fields, planted.batches(), method=method, parameter_budget=budget, config=config, model_config=FM
    )
    assert result.model is None
    assert not result.trajectory
    return result.plan


def test_the_search_gives_a_trained_model_within_the_budget_and_tells_what_the_pool_went_through(found, planted):
    result, records = found

    assert result.plan.parameters == BUDGET
    pool = result.model.embedding.chunked.stores[4].pool
    assert (
        sum(t.value.numpy().size for t in result.model.embedding.whole.tables.values()) + pool[1:].numpy().size
        == BUDGET
    )
    assert records == result.trajectory
    assert len(records) == 6
    last = records[-1]
    assert last["pool"]["slots"] == 16
    assert last["pool"]["used"] <= 16
    assert last["pool"]["allocated"] > 0
    assert last["dimensions"]["left"] == 4
    assert 0 < last["dimensions"]["noise"] <= 32 / 64
    assert f"{last['pool']['allocated']} allocated while it trained" in result.note
    assert not result.race


def test_its_bytes_are_those_of_everything_that_training_holds(found):
    result, _ = found
    model = build_model(build_embedding(result.plan, FM, seed=0), FM, seed=0)
    model.compile(LazyAdam())
    model.optimizer.build(model.trainable_variables)
    kernels = {id(layer.kernel) for layer in (model.embedding.whole, model.embedding.chunked)}
    held = [v for v in model.embedding.variables if id(v) not in kernels]
    trained = [v.path.replace("/", "_") for v in held if v.trainable]
    held += [slot for slot in model.optimizer.variables if any(path in slot.path for path in trained)]

    num_bytes = sum(int(np.prod(v.shape)) * tf.as_dtype(v.dtype).size for v in held)

    assert training_bytes(model.embedding) == num_bytes <= result.peak_table_bytes


def test_retrain_trains_the_plan_from_its_file_as_the_search_did(found, planted):
    result, _ = found
    batches = planted.batches(is_shuffled=False)
    loaded = EmbeddingPlan.from_dict(result.plan.to_dict())

    again = retrain(loaded, batches.take(3), batches.skip(3), config=CONFIG.training, model_config=FM, seed=1)

    assert again.validation == evaluate(result.model, batches.skip(3))
    np.testing.assert_array_equal(
        again.model.embedding.chunked.live_chunks()["noise"], result.model.embedding.chunked.live_chunks()["noise"]
    )


def test_a_trained_model_goes_on_with_fit_not_with_transfer_from(found, planted):
    result, _ = found

    with pytest.raises(ValueError, match=r"plan has chunks is trained already.*model\.fit"):
        retrain(result.plan, planted.batches(), config=CONFIG.training, transfer_from=result.model)


def test_adaembed_keeps_or_prunes_whole_rows(planted):
    config = METHODS["adaembed"].config(dimension=4, is_trained=False)
    found = search(planted.fields, planted.batches(), method="adaembed", parameter_budget=64, config=config).plan
    layer = build_embedding(found, FM, seed=0)

    assert found.chunks.chunks == 1
    assert found.parameters == 64
    assert set(np.count_nonzero(layer.tables_by_field()["noise"], axis=1)) == {0, 4}


@pytest.mark.parametrize("initial", ["uniform", "mixed_dimension"])
def test_rows_start_with_the_widths_of_the_initial_plan(planted, initial):
    found = plan(planted, initial=initial, min_rows=0, budget=200)

    means = build_embedding(found, FM, seed=0).mean_dimensions()

    starts = {field.name: field.start_dimension for field in found.fields}
    if initial == "uniform":
        assert set(starts.values()) == {None}
        assert means["left"] == pytest.approx(means["noise"], abs=0.5)
    else:
        assert means == pytest.approx(starts, abs=0.3)
        assert starts["left"] > starts["noise"]


@pytest.mark.parametrize(
    ("method", "budget", "chunking", "expected"),
    [
        (
            "fiited",
            112,
            ChunkConfig(),
            {"left": 3, "noise": 1, "right": 3},
        ),  # a hundredth of 80 rows is none
        ("fiited", 79, ChunkConfig(), None),
        ("fiited", None, ChunkConfig(pruning_ratio=0.65), {"left": 3, "noise": 1, "right": 3}),
        ("fiited", None, ChunkConfig(pruning_ratio=0.9), None),
        ("fiited", 112, MANUAL, None),
        ("adaembed", 112, ChunkConfig(chunks=1), None),
    ],
)
def test_rows_start_by_field_where_the_budget_holds_a_dimension_for_each(planted, method, budget, chunking, expected):
    config = METHODS[method].config(dimension=4, chunking=chunking, is_trained=False)

    found = search(planted.fields, planted.batches(), method=method, parameter_budget=budget, config=config).plan

    starts = {field.name: field.start_dimension for field in found.fields}
    assert starts == (expected or dict.fromkeys(starts))
    assert len(found.chunked_fields) == 3


def test_tables_of_less_than_a_hundredth_of_all_rows_stay_whole():
    fields = [Field(name=name, vocabulary_size=size) for name, size in (("a", 10_000), ("b", 100), ("c", 101))]
    data = tf.data.Dataset.from_tensors(({"a": [0], "b": [1], "c": [2]}, [1.0]))

    found = search(fields, data, method="fiited", config=FIITEDConfig(is_trained=False), parameter_budget=0.2).plan

    assert {field.name for field in found.whole_fields} == {"b", "c"}
    assert found.parameters <= 0.2 * 16 * 10_201


def test_a_plan_by_fields_comes_first_where_dimgrow_is_initial(planted, monkeypatch):
    from keras_dimgrow.methods import fiited

    first = EmbeddingPlan.from_dimensions(planted.fields, {"left": 2, "noise": 1, "right": 0})
    monkeypatch.setattr(
        fiited.dimgrow, "run", lambda problem, config: fiited.SearchResult(first, peak_table_bytes=10**6, note="Raced.")
    )

    result = search(
        planted.fields,
        planted.batches(),
        method="fiited",
        parameter_budget=80,
        config=dataclasses.replace(CONFIG, initial="dimgrow", is_trained=False),
        model_config=FM,
    )

    assert result.plan.dimensions == {"left": 2, "noise": 4, "right": 0}
    assert [field.start_dimension for field in result.plan.chunked_fields] == [1]
    assert result.plan.parameters == 80
    assert result.plan.pool_parameters == 80 - 16
    assert (result.peak_table_bytes, result.note) == (10**6, "Raced.")


def test_max_dim_bounds_an_unpruned_row():
    fields = [Field(name="a", vocabulary_size=100, max_dim=3), Field(name="b", vocabulary_size=100)]
    data = tf.data.Dataset.from_tensors(({"a": [0], "b": [1]}, [1.0]))

    found = search(fields, data, method="fiited", config=FIITEDConfig(dimension=4, is_trained=False)).plan

    assert found.dimensions == {"a": 2, "b": 4}
    assert found.parameters == 25 * 6


@pytest.mark.parametrize(
    ("method", "settings", "message"),
    [
        ("fiited", {"dimension": 5}, "must divide dimension; received chunking.chunks=2, dimension=5"),
        (
            "fiited",
            {"initial": "mde"},
            "initial must be one of auto, uniform, mixed_dimension, dimgrow; received initial='mde'",
        ),
        ("fiited", {"min_rows": -1}, "min_rows must be an integer >= 0"),
        ("fiited", {"is_trained": 1}, "is_trained must be true or false"),
        (
            "fiited",
            {"chunking": {"pruning_ratio": None, "parameter_budget": 5}},
            "the budget is the parameter_budget of the search",
        ),
        ("adaembed", {"chunking": {"chunks": 2}}, "rows have one chunk; received chunking.chunks=2"),
    ],
)
def test_settings_that_make_no_sense_are_refused(method, settings, message):
    with pytest.raises(ValueError, match=message):
        METHODS[method].config.from_dict(settings)


@pytest.mark.parametrize(
    ("changes", "budget", "message"),
    [
        ({}, 60, "whole, take 64 parameters; received a budget of 60"),
        ({}, 65, "the pool of chunks must have 1 to"),
        ({"min_rows": 65}, BUDGET, "No table is put in chunks: received min_rows=65"),
        (
            {"chunking": MANUAL},
            BUDGET,
            r"pruning_ratio=\(0.5, 0.9\) holds 76 values; .* leaves 32",
        ),
    ],
)
def test_a_budget_that_leaves_no_room_is_refused(planted, changes, budget, message):
    with pytest.raises(ValueError, match=message):
        plan(planted, budget=budget, **changes)


def test_a_pool_of_manual_ratios_may_stay_below_the_budget(planted):
    found = plan(planted, budget=160, chunking=MANUAL)

    assert found.pool_parameters == int((0.5 + 0.1) * 64 + 1e-6) * 2
    assert found.chunks.chunk_ratios == (0.5, 0.9)


def test_a_layer_without_chunks_refuses_a_plan_with_them(found):
    with pytest.raises(ValueError, match=r"received a plan with \['noise'\] in chunks. Train it with retrain"):
        PlannedEmbedding(found[0].plan)


# Stored, saved and exported.


@pytest.mark.parametrize(
    ("storage", "min_rows", "model_config"),
    [("float32", 0, FM), ("float16", 10, FM), ("float32", 10, JOINT), ("int8", 10, JOINT)],
)
def test_a_stored_model_predicts_the_same_from_pool_and_index_alone(planted, tmp_path, storage, min_rows, model_config):
    found = plan(planted, budget=160, min_rows=min_rows)
    model = build_model(build_embedding(found, model_config, seed=0), model_config, seed=0)
    layer = getattr(model.embedding, "chunked", model.embedding)
    layer.stores[4].pool.assign(50 * layer.stores[4].pool)
    batches = planted.batches(is_shuffled=False)

    stored = with_storage(model, storage)
    stored.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")

    ids, _ = next(iter(batches))
    expected, given = model.predict_on_batch(ids), stored.predict_on_batch(ids)
    np.testing.assert_allclose(given, expected, atol={"float32": 1e-6, "float16": 1e-3, "int8": 0.02}[storage])
    np.testing.assert_array_equal(loaded.predict_on_batch(ids), given)
    served = getattr(stored.embedding, "chunked", stored.embedding)
    names = {variable.name for variable in served.variables}
    assert names == {"pool", "index", "kernel"}
    assert served.summary()["used"] >= layer.summary()["used"]  # some of a live row's chunks are stored as zeros
    with pytest.raises(ValueError, match="a model made by with_storage only predicts"):
        served(ids, training=True)


def test_a_model_saved_with_its_fields_of_both_kinds_comes_back(found, planted, tmp_path):
    model = found[0].model
    batches = planted.batches(is_shuffled=False)

    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")

    assert evaluate(loaded, batches) == evaluate(model, batches)
    assert compare_storage(loaded, with_storage(model), batches).auc_difference == pytest.approx(0, abs=1e-6)


def test_an_export_holds_no_variable_that_only_training_needs(found, planted, tmp_path):
    stored = with_storage(found[0].model, "float16")
    signature = {field.name: tf.TensorSpec([None], tf.int64, field.name) for field in planted.fields}
    archive = keras.export.ExportArchive()
    archive.add_endpoint("serve", lambda columns: stored(columns, training=False), [signature])
    archive.write_out(str(tmp_path / "export"), verbose=False)

    served = tf.saved_model.load(str(tmp_path / "export"))
    ids, _ = next(iter(planted.batches(is_shuffled=False)))

    np.testing.assert_allclose(served.serve(ids), stored.predict_on_batch(ids), atol=1e-6)
    saved = [shape for _, shape in tf.train.list_variables(str(tmp_path / "export" / "variables" / "variables"))]
    store = stored.embedding.chunked.stores[4]
    assert saved.count(list(store.pool.shape)) == 1
    assert saved.count([64, 2]) + saved.count([64]) <= 1  # no utilities; not even an index, if the only table is direct
    assert [16] not in saved  # no free list


def test_inputs_that_are_no_dict_are_refused_where_fields_are_of_both_kinds(found):
    with pytest.raises(ValueError, match="inputs must be a dict"):
        found[0].model.embedding(np.zeros((2, 3), "int32"))
