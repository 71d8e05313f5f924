"""Ids and their embedding: combiners, weights, missing values, shapes, dtypes and checks, in both layers alike."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_dimgrow import (
    DimGrowEmbedding,
    EmbeddingPlan,
    Field,
    LazyAdam,
    ModelConfig,
    PlannedEmbedding,
    build_model,
)
from keras_dimgrow.fields import COMBINERS

V, D = 7, 3
HISTORY = Field(name="history", vocabulary_size=V, combiner="mean", missing_id=-1)
WEIGHTED = Field(name="history", vocabulary_size=V, combiner="mean", missing_id=-1, weights="scores")
# Rows with many values, with one, with none, and with one value twice.
PADDED = np.array([[0, 3, 6, 2], [5, -1, -1, -1], [-1, -1, -1, -1], [2, 2, -1, 4]])
SCORES = np.random.default_rng(1).uniform(0.1, 2.0, PADDED.shape).astype("float32")
TABLE = np.random.default_rng(0).normal(size=(V, D)).astype("float32")
LAYERS = ("DimGrowEmbedding", "PlannedEmbedding")


def searching(fields, width: int = D, dim: int = D, **options) -> DimGrowEmbedding:
    """A layer with `dim` dimensions a field, all of them in the model for good: its gates are 1."""
    fixed = [Field(**(vars(field) | {"min_dim": dim, "max_dim": dim})) for field in fields]
    return DimGrowEmbedding(fixed, width, seed=0, name="embedding", **options)


def planned(fields, width: int = D, dim: int = D, **options) -> PlannedEmbedding:
    return PlannedEmbedding(EmbeddingPlan.uniform(fields, dim), width, seed=0, name="embedding", **options)


MAKE = dict(zip(LAYERS, (searching, planned), strict=True))


@pytest.fixture(params=LAYERS)
def make(request):
    """Makes a layer of `D` dimensions a field."""
    return MAKE[request.param]


def tables_in(layer) -> list:
    return list(layer.tables.values()) if isinstance(layer.tables, dict) else list(layer.tables)


def bare(layer, table: np.ndarray = TABLE):
    """The layer of one field, which now gives the embeddings themselves: its table is `table`, its adapter 1."""
    layer.build(None)
    tables_in(layer)[0].assign(table)
    layer.kernel.assign(np.eye(table.shape[1]))
    return layer


def lookup(ids: np.ndarray, combiner: str, weights: np.ndarray | None = None, missing_id=-1, table=TABLE) -> np.ndarray:
    """TensorFlow's own lookup of padded ids; rows without a value are zeros."""
    where = np.argwhere(ids != missing_id)
    there = tuple(where.T)
    sparse = tf.SparseTensor(where, ids[there].astype("int64"), ids.shape)
    sparse_weights = None if weights is None else tf.SparseTensor(where, weights[there], ids.shape)
    rows = tf.nn.embedding_lookup_sparse(table, sparse, sparse_weights, combiner=combiner).numpy()
    return np.concatenate([rows, np.zeros((len(ids) - len(rows), table.shape[1]))])


# Combiners.


@pytest.mark.parametrize("is_weighted", [False, True])
@pytest.mark.parametrize("combiner", COMBINERS)
def test_a_combiner_is_that_of_tensorflows_sparse_lookup(make, combiner, is_weighted):
    field = Field(**(vars(WEIGHTED if is_weighted else HISTORY) | {"combiner": combiner}))
    layer = bare(make([field]))

    outputs = layer({"history": PADDED, "scores": SCORES} if is_weighted else PADDED)

    expected = lookup(PADDED, combiner, SCORES if is_weighted else None)
    np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-6)


@given(
    ids=st.integers(1, 5).flatmap(
        lambda length: st.lists(st.lists(st.integers(-1, V - 1), min_size=length, max_size=length), min_size=1)
    ),
    combiner=st.sampled_from(COMBINERS),
    seed=st.integers(0, 99),
)
@settings(max_examples=40, deadline=None)
def test_any_padding_gives_what_tensorflows_sparse_lookup_gives(ids, combiner, seed):
    ids = np.array(ids)
    weights = np.random.default_rng(seed).uniform(0.1, 3.0, ids.shape).astype("float32")
    layer = bare(planned([Field(**(vars(WEIGHTED) | {"combiner": combiner}))]))

    outputs = layer({"history": ids, "scores": weights})

    np.testing.assert_allclose(outputs, lookup(ids, combiner, weights), rtol=1e-4, atol=1e-5)


def test_padding_may_be_an_id_of_the_vocabulary(make):
    field = Field(**(vars(HISTORY) | {"missing_id": 0}))
    ids = np.where(PADDED == -1, 0, np.maximum(PADDED, 1))

    outputs = bare(make([field]))(ids)

    np.testing.assert_allclose(outputs, lookup(ids, "mean", missing_id=0), rtol=1e-5, atol=1e-6)


def test_without_a_missing_id_every_id_is_a_value(make):
    field = Field(name="history", vocabulary_size=V, combiner="sum")
    ids = np.array([[0, 0, 1], [6, 0, 2]])

    np.testing.assert_allclose(bare(make([field]))(ids), TABLE[ids].sum(1), rtol=1e-5)


@pytest.mark.parametrize("combiner", COMBINERS)
def test_the_length_of_the_padding_changes_nothing(make, combiner):
    layer = bare(make([Field(**(vars(HISTORY) | {"combiner": combiner}))]))
    longer = np.concatenate([PADDED, np.full((4, 5), -1)], axis=1)

    np.testing.assert_allclose(layer(longer), layer(PADDED), rtol=1e-6)


def test_a_row_without_a_value_is_zeros_with_finite_gradients(make):
    layer = bare(make([WEIGHTED]))
    scores = tf.Variable(SCORES)

    with tf.GradientTape() as tape:
        outputs = layer({"history": PADDED, "scores": scores})
        loss = tf.reduce_sum(tf.square(outputs))
    gradients = tape.gradient(loss, [scores, tables_in(layer)[0].value, layer.kernel.value])

    assert (outputs.numpy()[2] == 0).all()
    assert all(np.isfinite(tf.convert_to_tensor(gradient)).all() for gradient in gradients)


@pytest.mark.parametrize("combiner", COMBINERS)
def test_weights_that_are_all_zero_give_zeros_with_finite_gradients(make, combiner):
    layer = bare(make([Field(**(vars(WEIGHTED) | {"combiner": combiner}))]))
    scores = tf.Variable(np.zeros_like(SCORES))

    with tf.GradientTape() as tape:
        outputs = layer({"history": PADDED, "scores": scores})
        loss = tf.reduce_sum(outputs)
    gradients = tape.gradient(loss, [scores, tables_in(layer)[0].value])

    assert (outputs.numpy() == 0).all()
    assert all(np.isfinite(tf.convert_to_tensor(gradient)).all() for gradient in gradients)


@pytest.mark.parametrize("combiner", COMBINERS)
def test_weights_get_the_gradients_of_tensorflows_sparse_lookup(make, combiner):
    """Weights may come from a layer that learns, attention for instance."""
    layer = bare(make([Field(**(vars(WEIGHTED) | {"combiner": combiner}))]))
    scores, there = tf.Variable(SCORES), PADDED != -1

    with tf.GradientTape(persistent=True) as tape:
        outputs = tf.reduce_sum(tf.sin(layer({"history": PADDED, "scores": scores})))
        sparse = tf.SparseTensor(np.argwhere(there), PADDED[there], PADDED.shape)
        weights = tf.SparseTensor(np.argwhere(there), tf.boolean_mask(scores, there), PADDED.shape)
        expected = tf.reduce_sum(tf.sin(tf.nn.embedding_lookup_sparse(TABLE, sparse, weights, combiner=combiner)))

    np.testing.assert_allclose(
        tape.gradient(outputs, scores), tf.convert_to_tensor(tape.gradient(expected, scores)), rtol=1e-4, atol=1e-6
    )


# Missing values.


@pytest.mark.parametrize("missing_id", [-1, 0, 99])
def test_a_missing_single_value_is_zeros(make, missing_id):
    field = Field(name="city", vocabulary_size=V, missing_id=missing_id)
    ids = np.array([3, missing_id, 6])

    for inputs in (ids, ids[:, np.newaxis], {"city": ids}):
        outputs = bare(make([field]))(inputs)
        np.testing.assert_allclose(outputs, [TABLE[3], np.zeros(D), TABLE[6]], rtol=1e-6)


@pytest.mark.parametrize("missing_id", [-1, 0])
@pytest.mark.parametrize("combiner", [None, *COMBINERS])
def test_missing_values_get_no_gradient(make, combiner, missing_id):
    field = Field(name="history", vocabulary_size=V, combiner=combiner, missing_id=missing_id)
    ids = np.array([[3, missing_id], [missing_id, missing_id], [5, 3]])
    layer = bare(make([field]))

    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(layer(ids if combiner else ids[:, 0]))
    gradient = tape.gradient(loss, tables_in(layer)[0].value)

    assert isinstance(gradient, tf.IndexedSlices)
    assert sorted(gradient.indices.numpy().tolist()) == ([3, 3, 5] if combiner else [3, 5])


def test_training_leaves_the_row_of_the_padding_alone(make):
    fields = [Field(name="history", vocabulary_size=V, combiner="mean", missing_id=0)]
    model = build_model(make(fields), ModelConfig(adapter_width=D, hidden_units=(4,)), seed=0)
    model.compile(LazyAdam(0.1), "binary_crossentropy")
    before = tables_in(model.embedding)[0].numpy()
    ids = np.array([[1, 2, 0], [3, 0, 0], [4, 5, 0], [0, 0, 0]])

    model.fit(ids, np.array([0, 1, 0, 1]), epochs=3, verbose=0)

    changed = (tables_in(model.embedding)[0].numpy() != before).any(1)
    assert changed.tolist() == [False, True, True, True, True, True, False]


def test_a_batch_in_which_every_value_is_missing_trains(make):
    fields = [Field(name="city", vocabulary_size=V, missing_id=-1), HISTORY]
    model = build_model(make(fields), ModelConfig(adapter_width=D, hidden_units=(4,)), seed=0)
    model.compile(LazyAdam(0.1), "binary_crossentropy")
    before = [table.numpy() for table in tables_in(model.embedding)]

    history = model.fit(
        {"city": np.full(4, -1), "history": np.full((4, 2), -1)}, np.array([0, 1, 0, 1]), verbose=0
    ).history

    assert np.isfinite(history["loss"]).all()
    for table, old in zip(tables_in(model.embedding), before, strict=True):
        np.testing.assert_array_equal(table.numpy(), old)


# Shapes and dtypes.


@pytest.mark.parametrize("dtypes", [("int32",) * 3, ("int64",) * 3, ("uint8",) * 3, ("int64", "uint8", "int32")])
def test_ids_may_have_any_integer_dtype_and_differ_in_it(make, dtypes):
    fields = [Field(name=name, vocabulary_size=V) for name in "ab"] + [
        Field(name="history", vocabulary_size=V, combiner="sum", missing_id=0)
    ]
    layer = make(fields)
    ids = {"a": np.array([0, 6]), "b": np.array([3, 2]), "history": np.array([[1, 0], [4, 5]])}

    outputs = layer({name: values.astype(dtype) for (name, values), dtype in zip(ids.items(), dtypes, strict=True)})

    np.testing.assert_allclose(outputs, layer(ids), rtol=1e-6)


def test_fields_of_all_kinds_come_in_a_dict_or_a_list(make):
    fields = [
        HISTORY,
        Field(name="plain", vocabulary_size=4),
        Field(name="missing", vocabulary_size=5, missing_id=-1),
        Field(name="other", vocabulary_size=9),
    ]
    layer = make(fields, width=2)
    ids = {
        "history": PADDED,
        "plain": np.array([0, 1, 2, 3]),
        "missing": np.array([4, -1, 0, -1]),
        "other": np.array([8, 0, 1, 2]),
    }

    outputs = layer(ids)

    np.testing.assert_array_equal(layer([ids[field.name] for field in fields]), outputs)
    assert outputs.shape == (4, 2)


def test_a_matrix_is_one_column_a_field_missing_values_included(make):
    fields = [Field(name=name, vocabulary_size=V, missing_id=-1) for name in "ab"]
    layer, ids = make(fields), np.array([[0, -1], [-1, 6], [3, 2]])

    np.testing.assert_array_equal(layer(ids), layer({"a": ids[:, 0], "b": ids[:, 1]}))


@pytest.mark.parametrize("num_rows", [0, 1])
def test_batches_of_no_row_and_one_row_work_with_many_values(make, num_rows):
    assert make([HISTORY])(np.zeros((num_rows, 3), "int32")).shape == (num_rows, D)
    assert make([HISTORY])(np.zeros((num_rows, 0), "int32")).shape == (num_rows, D)


@pytest.mark.parametrize(
    ("field", "inputs", "message"),
    [
        (HISTORY, np.zeros(3, int), r"field 'history': with a combiner, ids must have shape \[B, L\]; received \(3,\)"),
        (
            Field(name="city", vocabulary_size=V),
            {"city": np.zeros((3, 2), int)},
            r"field 'city': ids must have shape \[B\] or \[B, 1\]; received \(3, 2\)\. .* needs a combiner",
        ),
        (WEIGHTED, PADDED, r"field 'history': no input 'scores' with its weights; received .*\. Pass a dict"),
        (WEIGHTED, {"history": PADDED}, r"no input 'scores' with its weights; received \['history'\]"),
        (
            WEIGHTED,
            {"history": PADDED, "scores": SCORES[:, :2]},
            r"field 'history': weights have shape \(4, 2\), ids \(4, 4\); they must be the same",
        ),
        (HISTORY, PADDED.astype("float32"), r"ids must be integers; received float32\. Cast them"),
        (HISTORY, np.array([["a", "b"]]), r"ids must be integers; received string\. Put a StringLookup"),
    ],
    ids=lambda value: value if isinstance(value, str) and len(value) < 12 else "",
)
def test_inputs_that_do_not_fit_are_named(make, field, inputs, message):
    with pytest.raises(ValueError, match=f"embedding, {message}" if message.startswith("field") else message):
        make([field])(inputs)


# Ids out of range.


@pytest.mark.parametrize(
    ("ids", "received"), [([[1, 2], [7, 0]], "7 in row 1"), ([[1, -1], [0, 0], [2, -2]], "-2 in row 2")]
)
def test_eager_code_names_field_id_and_row_of_an_id_outside_the_vocabulary(make, ids, received):
    layer = make([HISTORY])

    with pytest.raises(
        ValueError, match=rf"field 'history': ids must be in 0 \.\. 6; received {received} of the batch"
    ):
        layer(np.array(ids))


def test_an_id_of_missing_values_is_allowed_outside_the_vocabulary_only_where_it_is_named(make):
    fields = [Field(name="a", vocabulary_size=V, missing_id=-1), Field(name="b", vocabulary_size=V)]
    layer = make(fields)

    assert np.isfinite(layer({"a": np.array([-1]), "b": np.array([0])})).all()
    with pytest.raises(ValueError, match=r"field 'b'.*received -1 in row 0"):
        layer({"a": np.array([-1]), "b": np.array([-1])})


def two_fields() -> list[Field]:
    return [Field(name="city", vocabulary_size=5), HISTORY]


GOOD = {"city": np.array([0, 4]), "history": np.array([[0, -1], [6, 2]])}
BAD = {"city": np.array([0, 4]), "history": np.array([[0, -1], [7, 2]])}


def test_checked_ids_raise_inside_a_traced_function_and_name_the_field(make):
    layer = make(two_fields(), check_ids=True)
    layer(GOOD)
    traced = tf.function(layer)

    np.testing.assert_array_equal(traced(GOOD), layer(GOOD))
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"embedding.*\[.?history.?\]"):
        traced(BAD)
    np.testing.assert_array_equal(traced(GOOD), layer(GOOD))


def test_checked_ids_raise_inside_fit_and_predict(make):
    model = build_model(make(two_fields(), check_ids=True), ModelConfig(adapter_width=D, hidden_units=(4,)), seed=0)
    model.compile(LazyAdam(), "binary_crossentropy")

    model.fit(GOOD, np.array([0, 1]), verbose=0)
    for call in (lambda: model.fit(BAD, np.array([0, 1]), verbose=0), lambda: model.predict(BAD, verbose=0)):
        with pytest.raises(tf.errors.InvalidArgumentError, match="history"):
            call()


def test_checked_ids_raise_in_an_exported_model(make, tmp_path):
    model = build_model(make(two_fields(), check_ids=True), ModelConfig(adapter_width=D, hidden_units=(4,)), seed=0)
    signature = {"city": tf.TensorSpec([None], tf.int64), "history": tf.TensorSpec([None, None], tf.int64)}
    model.export(tmp_path / "exported", input_signature=[signature], verbose=False)
    loaded = tf.saved_model.load(str(tmp_path / "exported"))

    np.testing.assert_allclose(loaded.serve(as_tensors(GOOD)), model(GOOD), rtol=1e-5)
    with pytest.raises(tf.errors.InvalidArgumentError, match="history"):
        loaded.serve(as_tensors(BAD))


def as_tensors(ids) -> dict[str, tf.Tensor]:
    return {name: tf.constant(values, tf.int64) for name, values in ids.items()}


@pytest.mark.parametrize("check_ids", [False, True])
def test_only_checked_ids_cost_an_operation(make, check_ids):
    layer = make(two_fields(), check_ids=check_ids)
    layer(GOOD)

    graph = tf.function(layer).get_concrete_function(as_tensors(GOOD)).graph

    assert any(operation.type == "Assert" for operation in graph.get_operations()) == check_ids


# In models.


def ids_of_two_fields(num_rows: int = 32, length: int = 3) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Rows whose label is whether a value of the history is above the city."""
    rng = np.random.default_rng(0)
    ids = {"city": rng.integers(0, 5, num_rows), "history": rng.integers(-1, V, (num_rows, length))}
    return ids, (ids["history"].max(1) > ids["city"]).astype("float32")


def test_a_functional_model_takes_histories_of_any_length_and_comes_back_from_a_file(make, tmp_path):
    inputs = {
        "city": keras.Input((), dtype="int32", name="city"),
        "history": keras.Input((None,), dtype="int32", name="history"),
        "scores": keras.Input((None,), name="scores"),
    }
    layer = make([Field(name="city", vocabulary_size=5), WEIGHTED], width=8)
    model = keras.Model(inputs, keras.layers.Dense(1, "sigmoid")(layer(inputs)))
    ids, labels = ids_of_two_fields()
    ids |= {"scores": np.ones((32, 3), "float32")}
    model.compile(LazyAdam(0.05), "binary_crossentropy")

    losses = model.fit(ids, labels, epochs=8, verbose=0).history["loss"]
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")

    assert losses[-1] < losses[0]
    for length in (1, 4):
        given = ids_of_two_fields(length=length)[0] | {"scores": np.full((32, length), 2.0, "float32")}
        np.testing.assert_array_equal(loaded.predict(given, verbose=0), model.predict(given, verbose=0))


def test_batches_of_other_lengths_cost_no_retrace(make):
    layer, traces = make(two_fields()), []
    layer.build(None)

    @tf.function(input_signature=[{name: tf.TensorSpec([None] * a.ndim, tf.int64) for name, a in GOOD.items()}])
    def forward(inputs):
        traces.append(1)
        return layer(inputs, training=True)

    for length in (3, 1, 5):
        outputs = forward(as_tensors(ids_of_two_fields(length=length)[0]))

    assert len(traces) == 1
    assert outputs.shape == (32, D)


def test_a_sequential_model_starts_with_an_integer_input(make):
    layers = [make([Field(name=name, vocabulary_size=V) for name in "ab"]), keras.layers.Dense(1, "sigmoid")]
    ids = np.array([[0, 6], [3, 2]])
    model = keras.Sequential([keras.Input((2,), dtype="int32"), *layers])
    model.compile(LazyAdam(), "binary_crossentropy")

    assert np.isfinite(model.fit(ids, np.array([0, 1]), verbose=0).history["loss"]).all()


def test_the_cure_for_a_sequential_model_that_made_floats_of_ids_is_named(make):
    model = keras.Sequential([make([Field(name=name, vocabulary_size=V) for name in "ab"])])

    with pytest.raises(ValueError, match=r"received float32.*Sequential.*keras\.Input\(\.\.\., dtype=\"int32\"\)"):
        model(np.array([[0, 6], [3, 2]]))


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_weights_are_combined_in_float32_under_mixed_precision(make, policy):
    field = Field(**(vars(WEIGHTED) | {"combiner": "sum"}))
    table = np.full((V, D), 1e-5, "float32")
    layer, ids = bare(make([field], dtype=policy), table), np.array([[1, 2]])
    scores = np.array([[70001.0, -70000.0]], "float32")  # infinite in float16, equal in bfloat16

    outputs = layer({"history": ids, "scores": scores})

    assert outputs.dtype == layer.compute_dtype
    np.testing.assert_allclose(tf.cast(outputs, "float32"), np.full((1, D), 1e-5), rtol=0.1)


def test_a_ranking_model_hands_weights_on_in_float32_under_mixed_precision(make):
    keras.config.set_dtype_policy("mixed_float16")
    try:
        field = Field(**(vars(WEIGHTED) | {"combiner": "sum"}))
        model = build_model(make([field]), ModelConfig(adapter_width=D, hidden_units=(4,)), seed=0)
        received = []
        call = model.embedding.call
        model.embedding.call = lambda inputs, training=None: received.append(inputs["scores"].dtype) or call(inputs)
        model({"history": PADDED, "scores": SCORES})
    finally:
        keras.config.set_dtype_policy("float32")

    assert received == [tf.float32]


@pytest.mark.filterwarnings("ignore:Layer 'embedding'.*does not support masking:UserWarning")
def test_a_mask_on_ids_is_not_taken_for_missing_values_and_is_not_handed_on(make):
    layer, ids = make([HISTORY]), tf.constant(PADDED)
    expected = layer(ids)
    ids._keras_mask = tf.constant(PADDED > 3)

    outputs = layer(ids)

    np.testing.assert_array_equal(outputs, expected)
    assert getattr(outputs, "_keras_mask", None) is None
