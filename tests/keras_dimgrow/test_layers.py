"""DimGrowEmbedding and PlannedEmbedding, against NumPy; growth, saving, inputs and precision."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_dimgrow import (
    DimGrowEmbedding,
    EmbeddingPlan,
    Field,
    GateConfig,
    GrowableAdam,
    ModelConfig,
    PlannedEmbedding,
    build_model,
)
from keras_dimgrow.shuffle import cyclic_shift, random_permutation

B, WIDTH = 16, 3
FIELDS = (
    Field(name="a", vocabulary_size=5),
    Field(name="b", vocabulary_size=9),
    Field(name="c", vocabulary_size=4, min_dim=2, max_dim=3),
)


@pytest.fixture
def ids() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {field.name: rng.integers(0, field.vocabulary_size, B) for field in FIELDS}


def make_layer(grown=(), dropped=(), **options) -> DimGrowEmbedding:
    """A built layer whose every value differs, after growth and drops of the fields with these indices."""
    layer = DimGrowEmbedding(FIELDS, WIDTH, **({"seed": 1, "name": "embedding"} | options))
    layer.build({field.name: (None,) for field in FIELDS})
    rng = np.random.default_rng(2)
    for index in grown:
        layer.grow(index)
    for variable in (*layer.tables, layer.kernel, layer.theta):
        variable.assign(rng.normal(size=variable.shape))
    for index in dropped:
        layer.drop(index)
    return layer


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def q_of(layer, ids) -> np.ndarray:
    """Concat of the rows of all tables, [B, allocated dims]."""
    return np.concatenate(
        [table.numpy()[ids[field.name]] for field, table in zip(FIELDS, layer.tables, strict=True)], axis=1
    )


# Output.


@pytest.mark.parametrize("dropped", [(), (0, 1, 2)])
@pytest.mark.parametrize("grown", [(), (0, 0, 2)])
def test_in_inference_the_output_is_the_gated_masked_embedding_times_the_adapter(ids, grown, dropped):
    layer = make_layer(grown, dropped)
    factors = sigmoid(5 * layer.theta.numpy()) * layer.mask.numpy()

    expected = (q_of(layer, ids) * factors) @ layer.kernel.numpy()

    np.testing.assert_allclose(layer(ids, training=False), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("name", "shuffle"), [("cyclic", cyclic_shift), ("permutation", random_permutation)])
def test_in_training_the_output_is_equation_1_masked_times_the_adapter(ids, name, shuffle):
    layer = make_layer((1,), (1,), gate=GateConfig(shuffle=name))
    q, g = q_of(layer, ids), sigmoid(5 * layer.theta.numpy())
    shuffled = shuffle(tf.constant(q), layer.shuffle_seed.numpy()).numpy()

    outputs = layer(ids, training=True)

    expected = ((g * q + (1 - g) * shuffled) * layer.mask.numpy()) @ layer.kernel.numpy()
    np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-6)


def test_with_open_gates_it_is_a_plain_embedding_in_training_and_inference(ids):
    layer = make_layer((0,), gate=GateConfig(penalty=0.0))
    layer.theta.assign(np.full(layer.theta.shape, 10.0))
    expected = q_of(layer, ids) @ layer.kernel.numpy()

    for training in (True, False):
        np.testing.assert_allclose(layer(ids, training=training), expected, rtol=1e-4, atol=1e-5)
    layer(ids, training=True)
    assert float(sum(layer.losses)) == 0


def test_the_adapter_per_field_gives_each_field_its_own_output(ids):
    layer = make_layer((0, 1), (1,), adapter="per_field")
    factors = sigmoid(5 * layer.theta.numpy()) * layer.mask.numpy()
    q, ends = q_of(layer, ids) * factors, np.cumsum(layer.allocated_dims)

    outputs = layer(ids, training=False)

    assert outputs.shape == (B, 3, WIDTH)
    for index, (start, end) in enumerate(zip([0, *ends[:-1]], ends, strict=True)):
        np.testing.assert_allclose(outputs[:, index], q[:, start:end] @ layer.kernel.numpy()[start:end], rtol=1e-4)


@pytest.mark.parametrize("exponent", [0.0, 1.0])
def test_the_penalty_is_alpha_times_the_weighted_gates(ids, exponent):
    layer = make_layer((0, 0), (0,), gate=GateConfig(penalty=0.1, cost_exponent=exponent))
    costs = (np.array([5, 9, 4]) / 6) ** exponent

    layer(ids, training=True)

    expected = sum(
        costs[index] * gate / (k + 1)
        for index, gates in enumerate(layer.gates())
        for k, gate in enumerate(gates, start=1)
    )
    assert float(sum(layer.losses)) == pytest.approx(0.1 * expected, rel=1e-5)


def test_inference_adds_no_penalty_and_draws_no_shuffle(ids):
    layer = make_layer()

    layer(ids, training=False)

    assert layer.losses == []
    assert layer.shuffle_seed.numpy().tolist() == [1, 0]


def test_it_starts_with_one_dimension_a_field_or_its_min_dim_and_gates_at_one_half():
    layer = DimGrowEmbedding(FIELDS, WIDTH, seed=0)
    layer.build(None)

    assert layer.allocated_dims == layer.used_dims() == [1, 1, 2]
    assert [gates.tolist() for gates in layer.gates()] == [[0.5], [0.5], [0.5, 0.5]]


# Growth and reduction.


def test_growing_a_field_gives_it_a_column_and_leaves_all_others_alone():
    layer = make_layer((0,))
    tables, kernel, theta = [t.numpy() for t in layer.tables], layer.kernel.numpy(), layer.theta.numpy()

    layer.grow(1)

    assert layer.allocated_dims == [2, 2, 2]
    for index in (0, 2):
        np.testing.assert_array_equal(layer.tables[index].numpy(), tables[index])
    np.testing.assert_array_equal(layer.tables[1].numpy()[:, :1], tables[1])
    # The new row is the last one of field 1.
    np.testing.assert_array_equal(np.delete(layer.kernel.numpy(), 3, axis=0), kernel)
    np.testing.assert_array_equal(layer.theta.numpy(), np.insert(theta, 3, 0.0))
    assert layer.mask.numpy().tolist() == [1] * 6


def test_new_columns_and_adapter_rows_have_the_given_spread_and_follow_from_the_seed():
    field = Field(name="big", vocabulary_size=20_000)
    layers = [DimGrowEmbedding([field], 500, stddev=0.03, seed=seed) for seed in (1, 1, 2)]
    for layer in layers:
        layer.build(None)
        layer.grow(0)
        layer.grow(0)
    columns = [layer.tables[0].numpy() for layer in layers]

    np.testing.assert_array_equal(columns[0], columns[1])
    assert (columns[0] != columns[2]).any()
    np.testing.assert_allclose(columns[0].std(0), 0.03, rtol=0.03)
    np.testing.assert_allclose(layers[0].kernel.numpy().std(1), 0.03, rtol=0.15)
    assert np.abs(np.corrcoef(columns[0].T) - np.eye(3)).max() < 0.05


def test_new_columns_follow_from_the_seed_variable_which_distributed_workers_share():
    first, second = make_layer(seed=1), make_layer(seed=2)
    second.shuffle_seed.assign(first.shuffle_seed)

    for layer in (first, second):
        layer.grow(0)

    np.testing.assert_array_equal(first.tables[0][:, -1], second.tables[0][:, -1])
    np.testing.assert_array_equal(first.kernel[1], second.kernel[1])


@pytest.mark.parametrize("adapter", ["joint", "per_field"])
def test_growth_changes_the_output_by_the_new_dimension_alone(ids, adapter):
    layer = make_layer((0,), adapter=adapter)
    before = layer(ids, training=False).numpy()

    layer.grow(1)

    new = 0.5 * layer.tables[1].numpy()[ids["b"], 1:] @ layer.kernel.numpy()[3:4]
    after = layer(ids, training=False).numpy()
    change = (after - before) if adapter == "joint" else (after - before)[:, 1]
    np.testing.assert_allclose(change, new, rtol=1e-2, atol=1e-6)


def test_a_drop_masks_the_dimension_with_the_smallest_gate_and_frees_nothing(ids):
    layer = make_layer((0, 0))
    theta = np.array([0.3, -0.5, 0.1, 0, 0, 0])
    layer.theta.assign(theta)
    before, kernel = layer(ids, training=False).numpy(), layer.kernel.numpy()

    layer.drop(0)

    gone = sigmoid(-2.5) * layer.tables[0].numpy()[ids["a"], 1:2] @ kernel[1:2]
    np.testing.assert_allclose(before - layer(ids, training=False), gone, rtol=1e-4, atol=1e-6)
    assert layer.mask.numpy().tolist() == [1, 0, 1, 1, 1, 1]
    assert layer.used_dims() == [2, 1, 2]
    assert layer.allocated_dims == [3, 1, 2]
    np.testing.assert_allclose(layer.gates()[0], sigmoid(5 * theta[[0, 2]]), rtol=1e-5)


def test_further_drops_take_the_next_smallest_gate_down_to_none(ids):
    layer = make_layer((0, 0))
    layer.theta.assign([0.3, -0.5, 0.1, 0, 0, 0])

    masks = []
    for _ in range(3):
        layer.drop(0)
        masks.append(layer.masks()[0].tolist())

    assert masks == [[1, 0, 1], [1, 0, 0], [0, 0, 0]]
    assert layer.gates()[0].tolist() == []
    assert np.isfinite(layer(ids, training=True)).all()


def test_growing_takes_a_dropped_dimension_back_first_with_its_gate_at_one_half():
    layer = make_layer((0, 0), (0, 0))
    table, kernel, dead = layer.tables[0].numpy(), layer.kernel.numpy(), np.flatnonzero(layer.masks()[0] == 0)

    layer.grow(0)

    assert layer.allocated_dims == [3, 1, 2]
    assert layer.used_dims() == [2, 1, 2]
    assert layer.theta.numpy()[dead[0]] == 0
    np.testing.assert_array_equal(layer.tables[0].numpy(), table)
    np.testing.assert_array_equal(layer.kernel.numpy(), kernel)


@pytest.mark.parametrize("options", [{}, {"use_ema": True}, {"amsgrad": True}], ids=lambda o: "-".join(o) or "plain")
def test_a_dimension_taken_back_starts_with_fresh_optimizer_state_of_its_gate(ids, options):
    layer, optimizer = make_layer((0,)), GrowableAdam(0.1, **options)
    variables = layer.trainable_variables
    optimizer.build(variables)
    optimizer.apply([tf.ones_like(v.value) for v in variables])
    layer.drop(0)
    dead = int(np.flatnonzero(layer.masks()[0] == 0)[0])
    before = {name: slot.numpy() for name, slot in optimizer.slots_of(layer.theta)}
    assert all(values[dead] != 0 for values in before.values())

    layer.grow(0, optimizer)

    for name, slot in optimizer.slots_of(layer.theta):
        expected = before[name].copy()
        expected[dead] = 0.0  # the moving average too: it is the value that theta restarts from
        np.testing.assert_array_equal(slot.numpy(), expected)


def test_slots_of_table_adapter_and_gate_grow_with_them():
    layer, optimizer = make_layer(), GrowableAdam(0.1)
    optimizer.build(layer.trainable_variables)
    optimizer.apply([tf.ones_like(v.value) for v in layer.trainable_variables])

    layer.grow(0, optimizer)

    for variable, axis in ((layer.tables[0], 1), (layer.kernel, 0), (layer.theta, 0)):
        for _, slot in optimizer.slots_of(variable):
            assert tuple(slot.shape) == tuple(variable.shape)
            assert (np.take(slot.numpy(), 1, axis) == 0).all()
            assert (np.take(slot.numpy(), 0, axis) != 0).all()


def test_a_dropped_dimension_gets_no_gradient(ids):
    layer = make_layer((0,), (0,))
    dead = int(np.flatnonzero(layer.masks()[0] == 0)[0])

    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(layer(ids, training=True)) + sum(layer.losses)
    by_table, by_kernel, by_theta = tape.gradient(loss, [layer.tables[0].value, layer.kernel.value, layer.theta.value])

    assert (tf.convert_to_tensor(by_table).numpy()[:, dead] == 0).all()
    assert (by_kernel.numpy()[dead] == 0).all()
    assert by_theta.numpy()[dead] == 0
    assert by_theta.numpy()[1 - dead] != 0


def test_gradients_of_tables_are_row_sparse(ids):
    layer = make_layer()

    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(layer(ids, training=True))

    gradients = tape.gradient(loss, [table.value for table in layer.tables])
    assert all(isinstance(gradient, tf.IndexedSlices) for gradient in gradients)


def test_the_plan_counts_gates_above_one_half_but_keeps_the_min_dim():
    layer = make_layer((0, 0, 1))
    layer.theta.assign([0.1, 0.2, -0.1, 0.0, -0.3, -0.1, -0.2])

    assert layer.plan().dimensions == {"a": 2, "b": 0, "c": 2}


def test_the_plan_does_not_count_a_dropped_dimension():
    layer = make_layer((0,))
    layer.theta.assign([0.1, 0.2, 1.0, 1.0, 1.0])

    layer.drop(0)

    assert layer.plan().dimensions == {"a": 1, "b": 1, "c": 2}


def test_a_plan_without_any_field_is_refused():
    layer = DimGrowEmbedding(FIELDS[:2], WIDTH, seed=0)
    layer.build(None)

    with pytest.raises(ValueError, match="Every field has dimension 0"):
        layer.plan()


# Inputs.


def both_layers():
    plan = EmbeddingPlan.from_dimensions(FIELDS, {"a": 2, "b": 1, "c": 2})
    return [
        pytest.param(lambda: make_layer(), id="DimGrowEmbedding"),
        pytest.param(lambda: PlannedEmbedding(plan, WIDTH, seed=1), id="PlannedEmbedding"),
    ]


@pytest.mark.parametrize("make", both_layers())
@pytest.mark.parametrize("dtype", ["int32", "int64"])
def test_dict_list_matrix_and_column_inputs_give_the_same_output(ids, make, dtype):
    layer, ids = make(), {name: values.astype(dtype) for name, values in ids.items()}
    columns = [ids[field.name] for field in FIELDS]
    expected = layer(ids)

    for inputs in (
        dict(reversed(ids.items())),
        {name: values[:, None] for name, values in ids.items()},
        ids | {"unused": ids["a"]},
        columns,
        tuple(columns),
        np.stack(columns, axis=1),
    ):
        np.testing.assert_array_equal(layer(inputs), expected)


def test_a_single_field_may_come_as_a_vector_or_a_column():
    layer = DimGrowEmbedding(FIELDS[:1], WIDTH, seed=0)
    values = np.arange(5)
    expected = layer({"a": values})

    np.testing.assert_array_equal(layer(values), expected)
    np.testing.assert_array_equal(layer(values[:, None]), expected)


@pytest.mark.parametrize("make", both_layers())
def test_a_missing_field_is_named(ids, make):
    del ids["b"]

    with pytest.raises(ValueError, match=r"no ids for fields \['b'\]; received inputs \['a', 'c'\]"):
        make()(ids)


@pytest.mark.parametrize("make", both_layers())
def test_a_wrong_number_of_columns_is_named(ids, make):
    with pytest.raises(ValueError, match=r"received ids of 2 fields, expected 3: \['a', 'b', 'c'\]"):
        make()([ids["a"], ids["b"]])


@pytest.mark.parametrize("make", both_layers())
@pytest.mark.parametrize("num_rows", [0, 1])
def test_batches_of_one_row_and_none_work(make, num_rows):
    inputs = np.zeros((num_rows, 3), "int64")

    assert make()(inputs).shape == (num_rows, WIDTH)
    assert make()(inputs, **({"training": True} if num_rows else {})).shape == (num_rows, WIDTH)


@pytest.mark.parametrize(
    ("fields", "message"),
    [([], "at least one field"), ([FIELDS[0], FIELDS[0]], r"Field names must be unique; received \['a', 'a'\]")],
)
def test_impossible_lists_of_fields_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        DimGrowEmbedding(fields)


# Precision.


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
@pytest.mark.parametrize("adapter", ["joint", "per_field"])
def test_mixed_precision_computes_low_near_float32_and_stores_float32(ids, policy, adapter):
    expected = make_layer((0,), (0,), adapter=adapter)(ids, training=False)
    layer = make_layer((0,), (0,), adapter=adapter, dtype=policy)

    outputs = layer(ids, training=False)
    layer(ids, training=True)

    assert outputs.dtype == layer.compute_dtype
    np.testing.assert_allclose(tf.cast(outputs, "float32"), expected, atol=0.05)
    assert {v.dtype for v in layer.trainable_variables} == {"float32"}
    assert layer.losses[0].dtype == "float32"


# Saving.


def make_model(layer) -> keras.Model:
    return build_model(layer, ModelConfig(adapter_width=WIDTH, hidden_units=(4,)), seed=3)


@pytest.mark.parametrize("adapter", ["joint", "per_field"])
def test_a_search_model_saved_after_growth_predicts_the_same_when_loaded(tmp_path, ids, adapter):
    layer = make_layer((0, 1, 1), (1,), adapter=adapter)
    inputs = {field.name: keras.Input((), dtype="int32", name=field.name) for field in FIELDS}
    model = keras.Model(inputs, keras.layers.Flatten()(layer(inputs)))
    model.save(tmp_path / "model.keras")

    loaded = keras.saving.load_model(tmp_path / "model.keras")

    np.testing.assert_array_equal(loaded(ids), model(ids))
    assert loaded.get_layer("embedding").used_dims() == layer.used_dims()
    assert loaded.get_layer("embedding").allocated_dims == layer.allocated_dims
    np.testing.assert_array_equal(loaded.get_layer("embedding").penalty_weights, layer.penalty_weights)


def test_a_loaded_search_model_goes_on_growing(tmp_path, ids):
    model = make_model(make_layer((0,)))
    model.compile(GrowableAdam(0.1), "binary_crossentropy")
    labels = np.arange(B) % 2
    model.fit(ids, labels, verbose=0)
    model.save(tmp_path / "model.keras")

    loaded = keras.saving.load_model(tmp_path / "model.keras")
    for each in (model, loaded):
        each.get_layer("embedding").grow(1, each.optimizer)
        each.fit(ids, labels, verbose=0, shuffle=False)

    np.testing.assert_allclose(loaded(ids), model(ids), rtol=1e-5)


def test_its_config_makes_an_equal_layer_and_shares_nothing_with_it():
    layer = DimGrowEmbedding(FIELDS, 7, "per_field", GateConfig(penalty=0.1), stddev=0.2, seed=4, name="embedding")
    config = layer.get_config()

    copy = DimGrowEmbedding.from_config(config)
    config["fields"][0]["vocabulary_size"] = 1000

    assert copy.get_config() == layer.get_config()
    assert layer.fields == FIELDS


def test_cloning_a_model_gives_one_that_has_not_grown(ids):
    clone = keras.models.clone_model(make_model(make_layer((0, 0))))

    assert clone.get_layer("embedding").allocated_dims == [1, 1, 2]


# Tracing.


def test_growing_dropping_and_taking_back_cost_no_retrace(ids):
    layer, traces = make_layer(), []

    @tf.function
    def forward(inputs):
        traces.append(1)
        return layer(inputs, training=True)

    for change in (lambda: None, lambda: layer.grow(0), lambda: layer.drop(0), lambda: layer.grow(0)):
        change()
        outputs = forward(ids)

    assert len(traces) == 1
    assert outputs.shape == (B, WIDTH)


# PlannedEmbedding.

PLANNED = (
    Field(name="a", vocabulary_size=5),
    Field(name="b", vocabulary_size=9),
    Field(name="c", vocabulary_size=4),
    Field(name="d", vocabulary_size=6),
    Field(name="e", vocabulary_size=3),
)
# Groups of equal dimension: {b: 1, e: 1}, {d: 2}, {a: 3}; c is removed.
PLAN = EmbeddingPlan.from_dimensions(PLANNED, {"a": 3, "b": 1, "c": 0, "d": 2, "e": 1})


@pytest.fixture
def planned_ids():
    rng = np.random.default_rng(0)
    return {field.name: rng.integers(0, field.vocabulary_size, B) for field in PLANNED}


def embeddings_of(layer, ids) -> dict[str, np.ndarray]:
    """Each field's own rows, [B, d], by the fused tables and the offsets of the fields in them."""
    tables = {dim: table.numpy() for dim, table in layer.tables.items()}
    return {
        "a": tables["3"][ids["a"]],
        "b": tables["1"][ids["b"]],
        "d": tables["2"][ids["d"]],
        "e": tables["1"][9 + ids["e"]],
    }


# Rows of the adapter that belong to each field: groups by rising dimension.
KERNEL_ROWS = {"b": slice(0, 1), "e": slice(1, 2), "d": slice(2, 4), "a": slice(4, 7)}


def test_a_planned_layer_equals_separate_embeddings_per_field_joint(planned_ids):
    layer = PlannedEmbedding(PLAN, WIDTH, stddev=1.0, seed=0)
    outputs = layer(planned_ids)
    kernel = layer.kernel.numpy()

    expected = sum(e @ kernel[KERNEL_ROWS[name]] for name, e in embeddings_of(layer, planned_ids).items())

    np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-5)


def test_a_planned_layer_equals_separate_embeddings_per_field_in_the_plans_order(planned_ids):
    layer = PlannedEmbedding(PLAN, WIDTH, adapter="per_field", stddev=1.0, seed=0)
    outputs = layer(planned_ids)
    kernel, embeddings = layer.kernel.numpy(), embeddings_of(layer, planned_ids)

    assert outputs.shape == (B, 4, WIDTH)
    for index, name in enumerate(["a", "b", "d", "e"]):
        np.testing.assert_allclose(
            outputs[:, index], embeddings[name] @ kernel[KERNEL_ROWS[name]], rtol=1e-4, atol=1e-5
        )


def test_a_planned_layer_ignores_removed_fields(planned_ids):
    layer = PlannedEmbedding(PLAN, WIDTH, seed=0)
    expected = layer(planned_ids)
    without = {name: ids for name, ids in planned_ids.items() if name != "c"}
    out_of_range = planned_ids | {"c": np.full(B, 10**6)}

    np.testing.assert_array_equal(layer(without), expected)
    np.testing.assert_array_equal(layer(out_of_range), expected)
    np.testing.assert_array_equal(layer([out_of_range[field.name] for field in PLANNED]), expected)


def test_a_planned_layer_has_one_table_per_distinct_dimension_and_the_plans_parameters(planned_ids):
    layer = PlannedEmbedding(PLAN, WIDTH, seed=0)
    layer(planned_ids)

    assert {dim: tuple(table.shape) for dim, table in layer.tables.items()} == {"1": (12, 1), "2": (6, 2), "3": (5, 3)}
    assert sum(int(np.prod(t.shape)) for t in layer.tables.values()) == PLAN.parameters
    assert tuple(layer.kernel.shape) == (PLAN.total_dimensions, WIDTH)


@pytest.mark.parametrize("adapter", ["joint", "per_field"])
@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_a_planned_layer_computes_low_under_mixed_precision(planned_ids, policy, adapter):
    layer = PlannedEmbedding(PLAN, WIDTH, adapter=adapter, seed=0, dtype=policy)

    assert layer(planned_ids).dtype == layer.compute_dtype
    assert {v.dtype for v in layer.variables} == {"float32"}


@pytest.mark.parametrize("adapter", ["joint", "per_field"])
def test_a_planned_model_saved_and_loaded_predicts_the_same(tmp_path, planned_ids, adapter):
    inputs = {field.name: keras.Input((), dtype="int32", name=field.name) for field in PLAN.kept_fields}
    layer = PlannedEmbedding(PLAN, WIDTH, adapter=adapter, seed=0, name="embedding")
    model = keras.Model(inputs, keras.layers.Flatten()(layer(inputs)))
    model.save(tmp_path / "model.keras")

    loaded = keras.saving.load_model(tmp_path / "model.keras")

    kept = {name: planned_ids[name] for name in inputs}
    np.testing.assert_array_equal(loaded(kept), model(kept))
    assert loaded.get_layer("embedding").get_config() == layer.get_config()


def test_a_planned_layer_is_saved_by_tf_train_checkpoint(tmp_path, planned_ids):
    layer, other = (PlannedEmbedding(PLAN, WIDTH, seed=seed) for seed in (0, 1))
    expected = layer(planned_ids)
    other(planned_ids)
    path = tf.train.Checkpoint(layer=layer).save(str(tmp_path / "checkpoint"))

    tf.train.Checkpoint(layer=other).restore(path).assert_consumed()

    np.testing.assert_array_equal(other(planned_ids), expected)


def test_the_seed_decides_the_initial_values(planned_ids):
    outputs = [PlannedEmbedding(PLAN, WIDTH, seed=seed)(planned_ids) for seed in (1, 1, 2)]

    np.testing.assert_array_equal(outputs[0], outputs[1])
    assert (outputs[0].numpy() != outputs[2].numpy()).any()


# Models.


def test_a_model_ignores_inputs_that_it_does_not_use(planned_ids):
    model = make_model(PlannedEmbedding(PLAN, WIDTH, seed=0))

    kept = {field.name: planned_ids[field.name] for field in PLAN.kept_fields}

    np.testing.assert_array_equal(model.predict_on_batch(planned_ids), model.predict_on_batch(kept))


def test_models_of_one_seed_are_equal_and_of_two_seeds_not(ids):
    config = ModelConfig(adapter_width=WIDTH, hidden_units=(4,))
    outputs = [build_model(make_layer(), config, seed)(ids).numpy() for seed in (1, 1, 2)]

    np.testing.assert_array_equal(outputs[0], outputs[1])
    assert (outputs[0] != outputs[2]).any()


def test_a_subclassed_model_builds_the_layer_in_its_first_fit(ids):
    class Custom(keras.Model):
        def __init__(self):
            super().__init__()
            self.embedding = DimGrowEmbedding(FIELDS, WIDTH, seed=0)
            self.head = keras.layers.Dense(1, "sigmoid")

        def call(self, inputs, training=None):
            return self.head(self.embedding(inputs, training=training))

    model = Custom()
    model.compile(GrowableAdam(), "binary_crossentropy")
    model.fit(ids, np.arange(B) % 2, verbose=0)

    assert model.embedding.used_dims() == [1, 1, 2]
    assert model.embedding.penalty_weights.numpy().min() > 0
