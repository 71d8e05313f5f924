"""with_storage: tables in float32, float16 and int8 for serving, against NumPy and the model that they come from."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from keras_dimgrow import (
    DimGrowEmbedding,
    EmbeddingPlan,
    Field,
    ModelConfig,
    PlannedEmbedding,
    build_model,
    compare_storage,
    evaluate,
    with_storage,
)
from keras_dimgrow.layers import StoredEmbedding
from keras_dimgrow.storage import STORAGES, decode, encode, pad_dimensions

B, WIDTH = 64, 4
FIELDS = (
    Field(name="user", vocabulary_size=900),
    Field(name="item", vocabulary_size=300, table="items"),
    Field(name="useless", vocabulary_size=50),
    Field(name="hour", vocabulary_size=24),
    Field(name="history", vocabulary_size=300, table="items", combiner="mean", missing_id=-1, weights="scores"),
    Field(name="absent", vocabulary_size=70, missing_id=0),
    Field(name="tags", vocabulary_size=60, combiner="sum"),
)
DIMENSIONS = {"user": 3, "item": 2, "useless": 0, "hour": 1, "history": 2, "absent": 3, "tags": 5}
PLAN = EmbeddingPlan.from_dimensions(FIELDS, DIMENSIONS)
ADAPTERS = {"joint": "wide_deep", "per_field": "fm"}


@pytest.fixture(scope="module")
def ids() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    ids = {field.name: rng.integers(0, field.vocabulary_size, B) for field in FIELDS if field.combiner is None}
    ids |= {"history": rng.integers(-1, 300, (B, 3)), "tags": rng.integers(0, 60, (B, 2))}
    return ids | {"scores": rng.uniform(0.5, 2, (B, 3)).astype("float32")}


class Doubled(PlannedEmbedding):
    def call(self, inputs, training=None):
        return 2 * super().call(inputs, training=training)


def make_model(adapter: str = "joint", keep_removed: bool = False, **options) -> keras.Model:
    """A model whose embeddings are not near 0."""
    embedding = PlannedEmbedding(PLAN, WIDTH, adapter, stddev=1.0, seed=1, keep_removed=keep_removed, **options)
    config = ModelConfig(backbone=ADAPTERS[adapter], adapter_width=WIDTH, hidden_units=(4,))
    return build_model(embedding, config, seed=2)


def export(model: keras.Model, ids, path: str) -> None:
    signature = {name: tf.TensorSpec([None, *values.shape[1:]], values.dtype, name) for name, values in ids.items()}
    archive = keras.export.ExportArchive()
    archive.add_endpoint("serve", lambda columns: model(columns, training=False), [signature])
    archive.write_out(path, verbose=False)


# Predictions.


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize(("adapter", "keep_removed"), [("joint", False), ("per_field", False), ("per_field", True)])
def test_it_predicts_what_the_model_predicts(ids, storage, adapter, keep_removed):
    model = make_model(adapter, keep_removed)
    before = [variable.numpy() for variable in model.variables]

    stored = with_storage(model, storage)

    for variable, value in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(variable, value)
    # The rounding of tables has a test of its own; here, the model gets the rounded values.
    tables = stored.embedding.tables_by_field()
    tables = {name: table[:, : DIMENSIONS[name]] for name, table in tables.items()}
    model.embedding.assign_by_field(tables, model.embedding.kernels_by_field())
    np.testing.assert_allclose(stored.embedding(ids), model.embedding(ids), atol=1e-5)
    np.testing.assert_allclose(stored(ids), model(ids), atol=1e-5)
    assert np.ptp(stored(ids)) > 0.2


@pytest.mark.parametrize("storage", STORAGES)
def test_tables_are_the_models_up_to_the_rounding_of_the_storage(storage):
    model = make_model()

    stored = with_storage(model, storage).embedding

    for name, table in model.embedding.tables_by_field().items():
        values = stored.tables_by_field()[name]
        limit = {"float32": 0, "float16": 2**-11, "int8": 0.55 / 127}[storage] * np.abs(table).max(1, keepdims=True)
        assert (np.abs(values[:, : table.shape[1]] - table) <= limit).all()
        assert not values[:, table.shape[1] :].any()
        np.testing.assert_array_equal(
            stored.kernels_by_field()[name][: table.shape[1]], model.embedding.kernels_by_field()[name]
        )


@pytest.mark.parametrize(
    ("storage", "dtypes"), [("float16", {"float16"}), ("int8", {"int8"}), ("float32", {"float32"})]
)
def test_tables_are_stored_in_their_dtype_once_a_table(storage, dtypes):
    stored = with_storage(make_model(), storage).embedding

    assert {table.dtype for table in stored.tables.values()} == dtypes
    rows = sum(table.vocabulary_size for table in PLAN.tables if table.dimension)
    assert sum(table.shape[0] for table in stored.tables.values()) == rows


def test_functional_and_sequential_models_are_stored_too(ids):
    embedding = PlannedEmbedding(PLAN, WIDTH, seed=1, stddev=1.0)
    inputs = {name: keras.Input(values.shape[1:], dtype=str(values.dtype), name=name) for name, values in ids.items()}
    inner = keras.Model(inputs, embedding(inputs))
    model = keras.Model(inputs, keras.layers.Dense(1, "sigmoid")(inner(inputs)))

    stored = with_storage(model, "float16")

    np.testing.assert_allclose(stored(ids), model(ids), atol=1e-3)
    assert {v.dtype for v in stored.variables if "table" in v.path} == {"float16"}


@pytest.mark.parametrize("policy", ["mixed_float16", "float64"])
def test_the_dtype_policy_is_kept(ids, policy):
    stored = with_storage(make_model(dtype=policy), "int8")

    assert stored.embedding(ids).dtype == ("float16" if policy == "mixed_float16" else "float64")


# Files.


@pytest.mark.parametrize("storage", STORAGES)
def test_weights_survive_a_keras_file(ids, storage, tmp_path):
    stored = with_storage(make_model(), storage)
    stored.save(tmp_path / "model.keras")

    loaded = keras.saving.load_model(tmp_path / "model.keras")

    np.testing.assert_array_equal(loaded(ids), stored(ids))
    assert [v.dtype for v in loaded.variables] == [v.dtype for v in stored.variables]
    assert loaded.trainable_variables == []


@pytest.mark.parametrize("adapter", ADAPTERS)
@pytest.mark.parametrize("storage", STORAGES)
def test_an_export_runs_in_a_session_and_reads_no_whole_table(ids, storage, adapter, tmp_path):
    stored = with_storage(make_model(adapter), storage)

    expected = stored(ids).numpy()

    export(stored, ids, str(tmp_path / "exported"))

    with tf.compat.v1.Session(graph=tf.Graph()) as session:
        loaded = tf.compat.v1.saved_model.load(session, ["serve"], str(tmp_path / "exported"))
        signature = loaded.signature_def["serve"]
        [output] = signature.outputs.values()
        outputs = session.run(output.name, {info.name: ids[name] for name, info in signature.inputs.items()})
    np.testing.assert_allclose(outputs, expected, atol=1e-6)
    nodes = [node for function in loaded.graph_def.library.function for node in function.node_def]
    gathers = [node for node in nodes if node.op == "ResourceGather"]
    assert len({node.input[0] for node in gathers}) == len(stored.embedding.tables)
    assert not [node.name for node in nodes if node.op == "ReadVariableOp" and node.input[0] in gathered(gathers)]


def gathered(nodes) -> set[str]:
    return {node.input[0] for node in nodes}


def test_the_bytes_of_an_export_are_those_of_its_tables(tmp_path):
    fields = (Field(name="a", vocabulary_size=40_000),)
    model = build_model(
        PlannedEmbedding(EmbeddingPlan.from_dimensions(fields, {"a": 7}), WIDTH, seed=0),
        ModelConfig(adapter_width=WIDTH, hidden_units=(4,)),
        seed=0,
    )
    ids = {"a": np.arange(3)}
    for storage, row_bytes in (("float32", 28), ("float16", 14), ("int8", 8)):
        path = tmp_path / storage
        export(with_storage(model, storage), ids, str(path))

        num_bytes = sum(file.stat().st_size for file in (path / "variables").iterdir())

        assert 40_000 * row_bytes < num_bytes < 40_000 * row_bytes + 10_000


# Quality.


def test_the_comparison_is_that_of_two_evaluations(ids):
    model = make_model()
    labels = np.random.default_rng(1).integers(0, 2, B)
    stored = with_storage(model, "int8")
    batches = tf.data.Dataset.from_tensor_slices((ids, labels)).batch(24)

    comparison = compare_storage(model, stored, batches)

    reference, other = evaluate(model, batches), evaluate(stored, batches)
    assert comparison.auc_difference == other.auc - reference.auc
    assert comparison.log_loss_difference == other.log_loss - reference.log_loss != 0
    assert comparison.reference.num_rows == B


# Refusals.


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.filterwarnings("ignore:The model does not have any trainable weights:UserWarning")
def test_training_is_refused(ids, storage):
    stored = with_storage(make_model(), storage)
    stored.compile("sgd", "binary_crossentropy")

    with pytest.raises(ValueError, match=f"only predicts: its {storage} tables have no gradients. Train the model"):
        stored.fit(ids, np.zeros(B), verbose=0)


def test_an_unknown_storage_is_refused():
    with pytest.raises(ValueError, match="storage must be one of float32, float16, int8; received 'int4'"):
        with_storage(make_model(), "int4")


@pytest.mark.parametrize(
    "embedding",
    [
        DimGrowEmbedding(FIELDS[:1], WIDTH, seed=0),
        StoredEmbedding(PLAN, WIDTH),
        Doubled(PLAN, WIDTH, seed=0),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_other_layers_than_a_trained_plans_are_refused(embedding):
    model = build_model(embedding, ModelConfig(adapter_width=WIDTH, hidden_units=(4,)), seed=0)

    with pytest.raises(ValueError, match=r"with_storage takes .* with a PlannedEmbedding.*received"):
        with_storage(model)


@pytest.mark.parametrize(("storage", "value"), [("float16", 1e5), ("int8", 1e5), ("float32", np.inf), ("int8", np.nan)])
def test_values_that_a_storage_cannot_hold_are_refused(storage, value):
    model = make_model()
    table = model.embedding.tables["3"]
    table.assign(np.where(np.arange(len(table.numpy()))[:, np.newaxis] == 5, value, table.numpy()))

    with pytest.raises(ValueError, match=f"Storage '{storage}' holds values up to"):
        with_storage(model, storage)


# int8.


@settings(max_examples=200, deadline=None)
@given(
    hnp.arrays(
        np.float32,
        hnp.array_shapes(min_dims=2, max_dims=2, max_side=6),
        elements=st.floats(-1e4, 1e4, width=32).filter(lambda x: x == 0 or abs(x) > 1e-4),
    )
)
def test_each_int8_value_is_within_a_step_of_its_row(table):
    dimension = table.shape[1]

    decoded = decode(tf.constant(encode(table, "int8")), "int8", dimension).numpy()

    # Half a step, which the rounding up of the scale makes 9% larger; values of one dimension are float16.
    step = np.abs(table).max(axis=1, keepdims=True) / 127 * 2 ** (1 / 8)
    assert (np.abs(decoded - table) <= step * 0.5001).all()
    assert not decoded[table == 0].any()


def test_a_row_is_its_integers_times_its_scale():
    stored = encode(np.array([[127.0, -64.0, 0.0], [0.0, 0.0, 0.0], [2.0**-17, 0.0, 0.0]]), "int8")

    assert stored.tolist() == [[127, -64, 0, 64], [0, 0, 0, -128], [117, 0, 0, -127]]
    assert decode(tf.constant(stored[:1]), "int8", 3).numpy() == pytest.approx(np.array([[127, -64, 0]]), rel=1e-5)


# Padding.


@given(st.lists(st.tuples(st.integers(2, 10_000), st.integers(0, 16)), min_size=1, max_size=20))
def test_padding_costs_at_most_a_tenth_and_leaves_fewer_dimensions(sizes):
    if not any(dimension for _, dimension in sizes):
        return
    fields = [Field(name=f"f{i}", vocabulary_size=size) for i, (size, _) in enumerate(sizes)]
    plan = EmbeddingPlan.from_dimensions(fields, {f"f{i}": dimension for i, (_, dimension) in enumerate(sizes)})

    padded = pad_dimensions(plan)

    assert padded.parameters <= 1.1 * plan.parameters
    assert set(padded.dimensions.values()) <= set(plan.dimensions.values())
    for name, dimension in plan.dimensions.items():
        assert padded.dimensions[name] >= dimension
        assert (padded.dimensions[name] == 0) == (dimension == 0)


def test_small_tables_are_padded_and_large_ones_are_not():
    fields = [Field(name=str(size), vocabulary_size=size) for size in (10_000, 100, 200, 5_000)]
    plan = EmbeddingPlan.from_dimensions(fields, {"10000": 1, "100": 2, "200": 3, "5000": 4})

    assert pad_dimensions(plan).dimensions == {"10000": 1, "100": 4, "200": 4, "5000": 4}
