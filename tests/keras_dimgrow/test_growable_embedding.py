"""GrowableEmbedding, against NumPy: growth, projections, slots, files and fields of all kinds."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_dimgrow import Field, GrowableAdam, GrowableEmbedding, LazyAdam, ModelConfig, build_model, transfer_layer

B, WIDTH = 16, 4
FIELDS = (
    Field(name="a", vocabulary_size=5),
    Field(name="left", vocabulary_size=6, table="shared"),
    Field(name="b", vocabulary_size=9),
    Field(name="history", vocabulary_size=6, table="shared", combiner="mean", missing_id=0, weights="scores"),
)
DIMS = (2, 3, 1)  # of a, the shared table, and b
ADAPTERS = ("joint", "per_field")


@pytest.fixture
def ids() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "a": rng.integers(0, 5, B),
        "left": rng.integers(0, 6, B),
        "b": rng.integers(0, 9, B),
        "history": rng.integers(0, 6, (B, 3)),
        "scores": rng.uniform(0.5, 2, (B, 3)).astype("float32"),
    }


def make_layer(dimensions=DIMS, adapter="joint", **options) -> GrowableEmbedding:
    """A built layer whose every value differs."""
    layer = GrowableEmbedding(
        FIELDS, dimensions, WIDTH, adapter, stddev=1.0, **({"seed": 1, "name": "embedding"} | options)
    )
    layer.build(None)
    return layer


def embeddings_of(layer, ids) -> list[np.ndarray]:
    """What each field embeds to, [B, d], by NumPy."""
    a, shared, b = (table.numpy() for table in layer.tables)
    weights = ids["scores"] * (ids["history"] != 0)
    history = np.einsum("bl,bld->bd", weights, shared[ids["history"]])
    total = weights.sum(1, keepdims=True)
    history = np.divide(history, total, out=np.zeros_like(history), where=total > 0)
    return [a[ids["a"]], shared[ids["left"]], b[ids["b"]], history]


def output_of(layer, ids) -> np.ndarray:
    """The layer's output, by NumPy."""
    rows = np.split(layer.kernel.numpy(), layer.bounds()[1:-1])
    parts = [e @ w for e, w in zip(embeddings_of(layer, ids), rows, strict=True)]
    return sum(parts) if layer.adapter == "joint" else np.stack(parts, 1)


def make_trained(ids, make_optimizer=LazyAdam, adapter="joint", **options):
    """A compiled model on such a layer after a few steps, whose slots are not zero."""
    layer = make_layer(adapter=adapter, **options)
    backbone = "dcn" if adapter == "joint" else "fm"
    model = build_model(layer, ModelConfig(backbone=backbone, adapter_width=WIDTH, hidden_units=(6,)), 0)
    model.compile(make_optimizer(0.05), "binary_crossentropy")
    for _ in range(3):
        model.train_on_batch(ids, np.arange(B) % 2)
    return model


def rotation(dim, rank=None, seed=3):
    """Orthonormal columns, [dim, rank]."""
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(dim, dim)))[0][:, :rank]


# Output.


@pytest.mark.parametrize("dimensions", [DIMS, (0, 2, 1), (1, 0, 0), (0, 0, 0)])
@pytest.mark.parametrize("adapter", ADAPTERS)
def test_the_output_is_the_embeddings_times_the_adapter(ids, adapter, dimensions):
    layer = make_layer(dimensions, adapter)

    for training in (True, False):
        np.testing.assert_allclose(layer(ids, training=training), output_of(layer, ids), rtol=1e-4, atol=1e-6)
    assert layer.allocated_dims == list(dimensions)


def test_it_speaks_of_fields_and_counts_tables():
    layer = make_layer()

    assert layer.dimensions() == {"a": 2, "left": 3, "b": 1, "history": 3}
    assert layer.plan().parameters == 5 * 2 + 6 * 3 + 9
    assert [table.name for table in layer.searched_tables] == ["a", "left", "b"]
    assert layer.table_of == [0, 1, 2, 1]
    assert layer.bounds().tolist() == [0, 2, 5, 6, 9]
    assert layer.kernel.shape == (9, WIDTH)


def test_tables_start_with_one_dimension_or_their_min_dim():
    fields = (Field(name="a", vocabulary_size=5), Field(name="b", vocabulary_size=5, min_dim=3))

    layer = GrowableEmbedding(fields, adapter_width=WIDTH, seed=0)
    layer.build(None)

    assert layer.allocated_dims == [1, 3]


def test_adapter_rows_have_length_1_on_average_so_that_new_columns_learn_at_once():
    fields = [Field(name="a", vocabulary_size=5)]
    layer = GrowableEmbedding(fields, [200], adapter_width=50, seed=0)
    layer.build(None)
    layer.grow({0: 200})

    lengths = (layer.kernel.numpy() ** 2).sum(1)
    assert lengths[:200].mean() == pytest.approx(1, abs=0.05)
    assert lengths[200:].mean() == pytest.approx(1, abs=0.05)


def test_the_seed_decides_first_values_and_new_rows(ids):
    layers = [make_layer(seed=seed) for seed in (1, 1, 2)]
    for layer in layers:
        layer.grow({0: 2, 1: 1})
    kernels = [layer.kernel.numpy() for layer in layers]

    np.testing.assert_array_equal(kernels[0], kernels[1])
    np.testing.assert_array_equal(layers[0](ids), layers[1](ids))
    assert (kernels[0] != kernels[2]).all()


def test_two_growths_draw_different_rows():
    layer = make_layer((0, 0, 0))
    layer.grow({0: 1})
    layer.grow({0: 1})

    assert (layer.kernel.numpy()[0] != layer.kernel.numpy()[1]).all()


# Growth.


@pytest.mark.parametrize("adapter", ADAPTERS)
@pytest.mark.parametrize("columns", [{0: 1}, {1: 2}, {0: 2, 1: 1, 2: 3}])
def test_growth_leaves_the_output_as_it_is_and_adds_columns_of_zeros(ids, adapter, columns):
    layer = make_layer(adapter=adapter)
    before, tables = layer(ids).numpy(), [table.numpy() for table in layer.tables]

    layer.grow(columns)

    np.testing.assert_allclose(layer(ids), before, atol=1e-6)
    np.testing.assert_allclose(layer(ids), output_of(layer, ids), rtol=1e-4, atol=1e-6)
    for i, (table, old) in enumerate(zip(layer.tables, tables, strict=True)):
        assert layer.allocated_dims[i] == DIMS[i] + columns.get(i, 0)
        np.testing.assert_array_equal(table.numpy()[:, : DIMS[i]], old)
        assert not table.numpy()[:, DIMS[i] :].any()


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_growth_gives_each_field_of_a_table_rows_of_its_own_behind_those_it_has(adapter):
    layer = make_layer(adapter=adapter)
    old = np.split(layer.kernel.numpy(), layer.bounds()[1:-1])

    layer.grow({1: 2, 2: 1})

    new = np.split(layer.kernel.numpy(), layer.bounds()[1:-1])
    assert [len(rows) for rows in new] == [2, 5, 2, 5]
    for before, after in zip(old, new, strict=True):
        np.testing.assert_array_equal(after[: len(before)], before)
        assert (after[len(before) :] != 0).all()
    assert (new[1][3:] != new[3][3:]).all()


def test_a_table_at_zero_begins_again(ids):
    layer = make_layer((0, 0, 1))
    before = layer(ids).numpy()

    layer.grow({0: 1, 1: 2})

    assert layer.dimensions() == {"a": 1, "left": 2, "b": 1, "history": 2}
    np.testing.assert_allclose(layer(ids), before, atol=1e-6)


@pytest.mark.parametrize("adapter", ADAPTERS)
@pytest.mark.parametrize("make_optimizer", [LazyAdam, GrowableAdam])
def test_new_columns_learn_from_the_first_step_and_slots_grow_with_them(ids, adapter, make_optimizer):
    model = make_trained(ids, make_optimizer, adapter)
    layer = model.embedding
    slots = {
        (v.path, name): slot.numpy()
        for v in (*layer.tables, layer.kernel)
        for name, slot in model.optimizer.slots_of(v)
    }
    layer.grow({0: 1, 1: 2}, model.optimizer)

    for variable in (*layer.tables, layer.kernel):
        for name, slot in model.optimizer.slots_of(variable):
            assert slot.shape == variable.shape
            assert np.abs(slot.numpy()).sum() == pytest.approx(np.abs(slots[variable.path, name]).sum(), rel=1e-6)
    model.train_on_batch(ids, np.arange(B) % 2)
    for i, field in ((0, "a"), (1, "left")):
        assert (layer.tables[i].numpy()[np.unique(ids[field]), DIMS[i] :] != 0).all()


# Projections.


@pytest.mark.parametrize("adapter", ADAPTERS)
@pytest.mark.parametrize("index", [0, 1, 2])
def test_a_projection_of_full_rank_keeps_the_output(ids, adapter, index):
    layer = make_layer(adapter=adapter)
    before = layer(ids).numpy()
    basis = rotation(DIMS[index])

    layer.project(index, basis, basis.T)

    np.testing.assert_allclose(layer(ids), before, atol=1e-5)
    assert layer.allocated_dims == list(DIMS)


@pytest.mark.parametrize("adapter", ADAPTERS)
@pytest.mark.parametrize(("index", "rank"), [(0, 1), (1, 2), (1, 1), (1, 0), (2, 0)])
def test_a_projection_gives_the_output_of_the_projected_embeddings(ids, adapter, index, rank):
    layer = make_layer(adapter=adapter)
    directions = np.random.default_rng(4).normal(size=(DIMS[index], DIMS[index]))
    basis, triangle = np.linalg.qr(directions[:, :rank])
    mixing = triangle @ np.linalg.inv(directions)[:rank]
    reference = make_layer(adapter=adapter)
    reference.tables[index].assign(layer.tables[index].numpy() @ basis @ mixing)

    layer.project(index, basis, mixing)

    assert layer.allocated_dims == [rank if i == index else dim for i, dim in enumerate(DIMS)]
    np.testing.assert_allclose(layer(ids), reference(ids), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(layer(ids), output_of(layer, ids), rtol=1e-4, atol=1e-5)
    assert layer.kernel.shape == (layer.bounds()[-1], WIDTH)


def rows_of_table(layer, values, index):
    """The parts of the kernel, or a slot of it, that belong to the fields of a table."""
    parts = np.split(values, layer.bounds()[1:-1])
    return [part for part, owner in zip(parts, layer.table_of, strict=True) if owner == index]


@pytest.mark.parametrize("index", [0, 1])
def test_first_moments_rotate_by_the_basis_and_second_by_its_squares(ids, index):
    model = make_trained(ids)
    layer, optimizer = model.embedding, model.optimizer
    table = layer.tables[index]
    old = {name: slot.numpy() for name, slot in optimizer.slots_of(table)}
    old_rows = {name: rows_of_table(layer, slot.numpy(), index) for name, slot in optimizer.slots_of(layer.kernel)}
    others = {name: rows_of_table(layer, slot.numpy(), 2)[0] for name, slot in optimizer.slots_of(layer.kernel)}
    basis = rotation(DIMS[index], DIMS[index] - 1)

    layer.project(index, basis, basis.T, optimizer)

    assert sorted(old) == ["momentum", "velocity"]
    for name, slot in optimizer.slots_of(table):
        matrix = basis if name == "momentum" else basis**2
        np.testing.assert_allclose(slot.numpy(), old[name] @ matrix, rtol=1e-4, atol=1e-8)
        assert np.abs(old[name]).max() > 0
    for name, slot in optimizer.slots_of(layer.kernel):
        matrix = basis if name == "momentum" else basis**2
        for rows, before in zip(rows_of_table(layer, slot.numpy(), index), old_rows[name], strict=True):
            np.testing.assert_allclose(rows, matrix.T @ before, rtol=1e-4, atol=1e-8)
        np.testing.assert_array_equal(rows_of_table(layer, slot.numpy(), 2)[0], others[name])


def test_second_moments_stay_positive_and_training_goes_on(ids):
    model = make_trained(ids)
    model.embedding.project(1, rotation(3, 2), rotation(3, 2).T, model.optimizer)

    for variable in (*model.embedding.tables, model.embedding.kernel):
        slots = dict(model.optimizer.slots_of(variable))
        assert (slots["velocity"].numpy() >= 0).all()
    losses = [float(model.train_on_batch(ids, np.arange(B) % 2)) for _ in range(30)]
    assert losses[-1] < losses[0] - 0.05


# Traces, files, other layers.


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_one_trace_serves_all_growths_and_projections(ids, adapter):
    model, traces = make_trained(ids, adapter=adapter), []
    layer, optimizer = model.embedding, model.optimizer

    @tf.function
    def step(inputs, labels):
        traces.append(1)
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(keras.losses.binary_crossentropy(labels, model(inputs, training=True)))
        variables = model.trainable_variables
        optimizer.apply(tape.gradient(loss, [v.value for v in variables]), variables)
        return loss

    labels = (np.arange(B) % 2).reshape(-1, 1).astype("float32")
    changes = (
        lambda: None,
        lambda: layer.grow({0: 1, 2: 3}, optimizer),
        lambda: layer.project(1, rotation(3, 1), rotation(3, 1).T, optimizer),
        lambda: layer.project(2, rotation(4, 0), rotation(4, 0).T, optimizer),
        lambda: layer.grow({1: 2, 2: 1}, optimizer),
    )
    for change in changes:
        change()
        assert np.isfinite(step(ids, labels))

    assert layer.allocated_dims == [3, 3, 1]
    assert len(traces) == 1


def grown_and_cut(ids):
    model = make_trained(ids)
    model.embedding.grow({0: 2, 2: 1}, model.optimizer)
    model.embedding.project(1, rotation(3, 0), rotation(3, 0).T, model.optimizer)
    model.train_on_batch(ids, np.arange(B) % 2)
    return model


def values_of(model):
    return [v.numpy() for v in (*model.variables, *model.optimizer.variables)]


def assert_goes_on_alike(model, other, ids):
    """Both have equal values, and after one growth and step more still have."""
    for each in (model, other):
        each.embedding.grow({0: 1, 1: 1}, each.optimizer)
        each.train_on_batch(ids, np.arange(B) % 2)
    assert other.embedding.allocated_dims == [5, 1, 2]
    for value, expected in zip(values_of(other), values_of(model), strict=True):
        np.testing.assert_allclose(value, expected, atol=1e-6)


def test_a_model_that_grew_and_was_cut_comes_back_from_a_file_and_goes_on(ids, tmp_path):
    model = grown_and_cut(ids)
    model.save(tmp_path / "model.keras")

    loaded = keras.saving.load_model(tmp_path / "model.keras")

    np.testing.assert_array_equal(loaded.predict_on_batch(ids), model.predict_on_batch(ids))
    assert_goes_on_alike(model, loaded, ids)


def test_a_checkpoint_after_growth_is_restored_into_a_fresh_model_and_goes_on(ids, tmp_path):
    model = grown_and_cut(ids)
    path = tf.train.Checkpoint(model=model, optimizer=model.optimizer).save(str(tmp_path / "checkpoint"))
    fresh = make_trained(ids)

    tf.train.Checkpoint(model=fresh, optimizer=fresh.optimizer).restore(path).assert_existing_objects_matched()

    np.testing.assert_array_equal(fresh.predict_on_batch(ids), model.predict_on_batch(ids))
    assert_goes_on_alike(model, fresh, ids)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_under_mixed_precision_tables_stay_float32_through_growth_and_projection(ids, policy):
    model = make_trained(ids, dtype=policy)
    layer = model.embedding
    before = tf.cast(layer(ids), "float32").numpy()

    layer.grow({0: 2}, getattr(model.optimizer, "inner_optimizer", model.optimizer))
    layer.project(1, rotation(3), rotation(3).T, getattr(model.optimizer, "inner_optimizer", model.optimizer))

    assert {variable.dtype for variable in layer.trainable_variables} == {"float32"}
    assert layer(ids).dtype == layer.compute_dtype
    np.testing.assert_allclose(tf.cast(layer(ids), "float32"), before, atol=0.05 * np.abs(before).max())
    assert np.isfinite(model.train_on_batch(ids, np.arange(B) % 2))


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_a_transferred_layer_gives_the_same_output(ids, adapter):
    layer = make_layer((2, 0, 1), adapter)
    layer.grow({0: 1})
    layer.project(2, rotation(1), rotation(1).T)

    planned = transfer_layer(layer)

    assert planned.plan == layer.plan()
    assert planned.plan.dimensions == {"a": 3, "left": 0, "b": 1, "history": 0}
    np.testing.assert_allclose(planned(ids), layer(ids), rtol=1e-5, atol=1e-6)


def test_ids_outside_their_vocabulary_are_refused(ids):
    with pytest.raises(ValueError, match=r"embedding, field 'b': ids must be in 0 .. 8; received 9 in row 0"):
        make_layer()(ids | {"b": np.full(B, 9)})


def test_an_adapter_that_there_is_none_of_is_refused():
    with pytest.raises(ValueError, match=r"adapter must be one of .*received"):
        GrowableEmbedding(FIELDS, adapter="both")
