"""Fields that share one table, a target item and a history for instance: one dimension, an adapter's rows for each."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_dimgrow import (
    DimGrowEmbedding,
    EmbeddingPlan,
    Field,
    GateConfig,
    LazyAdam,
    PlannedEmbedding,
    PlannedField,
)
from keras_dimgrow.shuffle import cyclic_shift

B, WIDTH, V = 16, 3, 6
# Three fields share "items", with another field between them.
FIELDS = (
    Field(name="item", vocabulary_size=V, table="items"),
    Field(name="city", vocabulary_size=4),
    Field(name="history", vocabulary_size=V, table="items", combiner="mean", missing_id=-1),
    Field(name="cart", vocabulary_size=V, table="items", combiner="sum", missing_id=-1),
)
ITEMS, CITY = 0, 1  # positions of the tables
OWNERS = [ITEMS, CITY, ITEMS, ITEMS]


@pytest.fixture
def ids() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "item": rng.integers(0, V, B),
        "city": rng.integers(0, 4, B),
        "history": rng.integers(-1, V, (B, 3)),
        "cart": rng.integers(-1, V, (B, 2)),
    }


def make_layer(grown=(), dropped=(), fields=FIELDS, **options) -> DimGrowEmbedding:
    """A built layer whose every value differs, after growth and drops of these tables."""
    layer = DimGrowEmbedding(fields, WIDTH, **({"seed": 1, "name": "embedding"} | options))
    layer.build(None)
    for table in grown:
        layer.grow(table)
    rng = np.random.default_rng(2)
    for variable in (*layer.tables, layer.kernel, layer.theta):
        variable.assign(rng.normal(size=variable.shape))
    for table in dropped:
        layer.drop(table)
    return layer


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def pooled(table: np.ndarray, ids: np.ndarray, combiner: str | None) -> np.ndarray:
    if combiner is None:
        return table[ids]
    is_there = (ids >= 0)[:, :, np.newaxis]
    total = (table[np.maximum(ids, 0)] * is_there).sum(1)
    return total / np.maximum(is_there.sum(1), 1) if combiner == "mean" else total


def embeddings_of(tables: dict[str, np.ndarray], ids, fields=FIELDS) -> list[np.ndarray]:
    """Per field [B, d]."""
    return [pooled(tables[field.name], ids[field.name], field.combiner) for field in fields if field.name in tables]


def tables_of(layer) -> dict[str, np.ndarray]:
    return {f.name: layer.tables[table].numpy() for f, table in zip(layer.fields, layer.table_of, strict=True)}


def by_column(layer, flat) -> np.ndarray:
    """The tables' values for the columns of Q: those of `items` come three times."""
    parts = np.split(np.asarray(flat), np.cumsum(layer.allocated_dims)[:-1])
    return np.concatenate([parts[table] for table in OWNERS])


def adapted(layer, embeddings, scale) -> np.ndarray:
    """What the layer's adapter makes of Q, its rows multiplied by `scale`."""
    bounds = np.cumsum([e.shape[1] for e in embeddings])[:-1]
    kernels = np.split(layer.kernel.numpy() * scale[:, np.newaxis], bounds)
    outputs = [e @ kernel for e, kernel in zip(embeddings, kernels, strict=True)]
    return sum(outputs) if layer.adapter == "joint" else np.stack(outputs, axis=1)


# One table, an adapter's rows for each field.


def test_a_shared_table_is_one_variable_with_one_gate_a_dimension():
    layer = make_layer((ITEMS,))

    assert layer.table_of == OWNERS
    assert [table.name for table in layer.searched_tables] == ["item", "city"]
    assert [tuple(table.shape) for table in layer.tables] == [(V, 2), (4, 1)]
    assert layer.theta.shape == layer.mask.shape == layer.penalty_weights.shape == (3,)
    assert tuple(layer.kernel.shape) == (2 + 1 + 2 + 2, WIDTH)
    assert layer.policy_state.shape[0] == 2
    assert layer.dimensions() == {"item": 2, "city": 1, "history": 2, "cart": 2}


@pytest.mark.parametrize("adapter", ["joint", "per_field"])
@pytest.mark.parametrize(("grown", "dropped"), [((), ()), ((ITEMS, ITEMS, CITY), ()), ((ITEMS, ITEMS), (ITEMS,))])
def test_in_inference_each_field_has_its_embedding_of_the_table_gated_and_adapted_by_its_own_rows(
    ids, adapter, grown, dropped
):
    layer = make_layer(grown, dropped, adapter=adapter)
    scale = by_column(layer, sigmoid(5 * layer.theta.numpy()) * layer.mask.numpy())

    outputs = layer(ids, training=False)

    np.testing.assert_allclose(
        outputs, adapted(layer, embeddings_of(tables_of(layer), ids), scale), rtol=1e-4, atol=1e-5
    )


def test_in_training_each_fields_columns_are_shuffled_by_themselves(ids):
    layer = make_layer((ITEMS,), (ITEMS,))
    embeddings = embeddings_of(tables_of(layer), ids)
    q = np.concatenate(embeddings, axis=1).astype("float32")
    shuffled = cyclic_shift(tf.constant(q), layer.shuffle_seed.numpy()).numpy()
    g = by_column(layer, sigmoid(5 * layer.theta.numpy()))

    outputs = layer(ids, training=True)

    scale = by_column(layer, layer.mask.numpy())
    np.testing.assert_allclose(
        outputs, ((g * q + (1 - g) * shuffled) * scale) @ layer.kernel.numpy(), rtol=1e-4, atol=1e-5
    )


def test_the_penalty_counts_the_gates_of_a_shared_table_once(ids):
    layer = make_layer((ITEMS,), gate=GateConfig(penalty=0.1, cost_exponent=1.0))
    first, second, city = sigmoid(5 * layer.theta.numpy())

    layer(ids, training=True)

    expected = 0.1 * (V / 5 * (first / 2 + second / 3) + 4 / 5 * city / 2)
    assert float(sum(layer.losses)) == pytest.approx(expected, rel=1e-5)


def test_gradients_of_table_and_gates_are_the_sums_over_the_fields(ids):
    shared = make_layer((ITEMS,))
    apart_fields = [
        Field(name=f.name, vocabulary_size=f.vocabulary_size, combiner=f.combiner, missing_id=f.missing_id)
        for f in FIELDS
    ]
    apart = DimGrowEmbedding(apart_fields, WIDTH, seed=1)
    apart.build(None)
    apart.grow([0, 2, 3])
    for table, owner in zip(apart.tables, OWNERS, strict=True):
        table.assign(shared.tables[owner].numpy())
    apart.kernel.assign(shared.kernel.numpy())
    apart.theta.assign(by_column(shared, shared.theta.numpy()))
    gradients = []
    for layer in (shared, apart):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tf.sin(layer(ids, training=True)))
        variables = [*layer.tables, layer.theta, layer.kernel]
        gradients.append([tf.convert_to_tensor(g).numpy() for g in tape.gradient(loss, [v.value for v in variables])])
    (items, city, theta, kernel), (item_apart, city_apart, history, cart, theta_apart, kernel_apart) = gradients

    np.testing.assert_allclose(items, item_apart + history + cart, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(city, city_apart, rtol=1e-4, atol=1e-5)
    summed = [*(theta_apart[:2] + theta_apart[3:5] + theta_apart[5:]), theta_apart[2]]
    np.testing.assert_allclose(theta, summed, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(kernel, kernel_apart, rtol=1e-4, atol=1e-5)


# Growth and reduction.


@pytest.mark.parametrize("adapter", ["joint", "per_field"])
def test_growth_gives_each_field_of_the_table_a_row_of_the_adapter_at_its_place(ids, adapter):
    layer = make_layer((CITY,), adapter=adapter)
    before, kernel, theta = layer(ids, training=False).numpy(), layer.kernel.numpy(), layer.theta.numpy()

    layer.grow([ITEMS, CITY])

    # Columns of Q: item 2, city 3, history 2, cart 2; the new ones are the last of each field.
    new = [1, 4, 6, 8]
    np.testing.assert_array_equal(np.delete(layer.kernel.numpy(), new, axis=0), kernel)
    np.testing.assert_array_equal(np.delete(layer.theta.numpy(), [1, 4]), theta)
    rows = layer.kernel.numpy()[new]
    assert len(np.unique(rows)) == rows.size
    columns = [e[:, -1:] for e in embeddings_of(tables_of(layer), ids)]
    added = [0.5 * e @ row[np.newaxis] for e, row in zip(columns, rows, strict=True)]
    expected = before + (sum(added) if adapter == "joint" else np.stack(added, axis=1))
    np.testing.assert_allclose(layer(ids, training=False), expected, rtol=1e-4, atol=1e-6)


def test_slots_grow_at_the_places_of_all_fields_of_the_table(ids):
    layer, optimizer = make_layer(), LazyAdam(0.1)
    optimizer.build(layer.trainable_variables)
    optimizer.apply([tf.ones_like(v.value) for v in layer.trainable_variables])

    layer.grow(ITEMS, optimizer)

    for _, slot in optimizer.slots_of(layer.kernel):
        assert (slot.numpy() != 0).all(1).tolist() == [True, False, True, True, False, True, False]
    for _, slot in optimizer.slots_of(layer.theta):
        assert (slot.numpy() != 0).tolist() == [True, False, True]


def test_a_dropped_dimension_is_gone_from_all_fields_and_taken_back_by_all(ids):
    layer = make_layer((ITEMS,), adapter="per_field")
    layer.theta.assign([1.0, -1.0, 0.0])
    layer.drop(ITEMS)
    scale = by_column(layer, sigmoid(np.array([5, -5, 0])) * [1, 0, 1])

    np.testing.assert_allclose(
        layer(ids, training=False), adapted(layer, embeddings_of(tables_of(layer), ids), scale), rtol=1e-4, atol=1e-6
    )
    assert layer.dimensions() == {"item": 1, "city": 1, "history": 1, "cart": 1}
    layer.grow(ITEMS)
    assert (layer.used_dims(), layer.allocated_dims) == ([2, 1], [2, 1])


def test_settling_leaves_the_dimensions_of_the_plan():
    layer = make_layer((ITEMS, ITEMS, CITY))
    layer.theta.assign([0.4, -0.1, 0.2, -0.3, 0.1])

    plan = layer.plan()
    layer.settle()

    assert plan.dimensions == layer.dimensions() == {"item": 2, "city": 1, "history": 2, "cart": 2}
    assert [mask.tolist() for mask in layer.masks()] == [[1, 0, 1], [0, 1]]
    assert layer.plan() == plan
    assert layer.penalty_weights.numpy()[[1, 3]].tolist() == [0, 0]


def test_growth_of_shared_tables_costs_no_retrace(ids):
    layer, traces = make_layer(adapter="per_field"), []

    @tf.function
    def forward(inputs):
        traces.append(1)
        return layer(inputs, training=True)

    for table in (None, ITEMS, CITY, ITEMS):
        if table is not None:
            layer.grow(table)
        assert forward(ids).shape == (B, 4, WIDTH)

    assert len(traces) == 1


def test_a_layer_with_shared_tables_comes_back_from_a_file(ids, tmp_path):
    layer = make_layer((ITEMS, CITY, CITY), (CITY,))
    inputs = {name: keras.Input(a.shape[1:], dtype="int32", name=name) for name, a in ids.items()}
    model = keras.Model(inputs, layer(inputs))
    model.save(tmp_path / "model.keras")

    loaded = keras.saving.load_model(tmp_path / "model.keras")

    np.testing.assert_array_equal(loaded(ids), model(ids))
    assert loaded.get_layer("embedding").fields == FIELDS


# Plans.

# Dimension 2: item, history and cart in one table, and city; dimension 1: day and the shared pair; hour is removed.
PLANNED = (
    PlannedField(name="item", vocabulary_size=V, table="items", dimension=2),
    PlannedField(name="day", vocabulary_size=3, dimension=1),
    PlannedField(name="history", vocabulary_size=V, table="items", combiner="mean", missing_id=-1, dimension=2),
    PlannedField(name="hour", vocabulary_size=9, dimension=0),
    PlannedField(name="city", vocabulary_size=4, dimension=2),
    PlannedField(name="from", vocabulary_size=5, table="places", dimension=1),
    PlannedField(name="cart", vocabulary_size=V, table="items", combiner="sum", missing_id=-1, dimension=2),
    PlannedField(name="to", vocabulary_size=5, table="places", dimension=1),
)
PLAN = EmbeddingPlan(PLANNED)


@pytest.fixture
def planned_ids(ids) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(3)
    sizes = {"day": 3, "from": 5, "to": 5, "hour": 9}
    return ids | {name: rng.integers(0, size, B) for name, size in sizes.items()}


def test_a_plan_counts_a_shared_table_once():
    assert PLAN.parameters == 2 * V + 3 + 2 * 4 + 5
    assert PLAN.total_dimensions == 2 + 1 + 0 + 2 + 1
    assert PLAN.ratio_to_uniform(4) == PLAN.parameters / (4 * (V + 3 + 9 + 4 + 5))
    assert [table.name for table in PLAN.tables] == ["item", "day", "hour", "city", "from"]
    assert EmbeddingPlan.uniform(FIELDS, 3).parameters == 3 * (V + 4)


def test_a_plan_with_shared_tables_survives_json():
    assert EmbeddingPlan.from_dict(PLAN.to_dict()) == PLAN


@pytest.mark.parametrize("keep_removed", [False, True])
@pytest.mark.parametrize("adapter", ["joint", "per_field"])
def test_a_planned_layer_with_shared_tables_equals_an_embedding_for_each_field(planned_ids, adapter, keep_removed):
    layer = PlannedEmbedding(PLAN, WIDTH, adapter, stddev=1.0, seed=0, keep_removed=keep_removed)
    outputs = layer(planned_ids)
    tables, kernels = layer.tables_by_field(), layer.kernels_by_field()

    parts = {
        field.name: pooled(tables[field.name], planned_ids[field.name], field.combiner) @ kernels[field.name]
        for field in PLAN.kept_fields
    }
    if adapter == "joint":
        expected = sum(parts.values())
    else:
        shown = PLANNED if keep_removed else PLAN.kept_fields
        expected = np.stack([parts.get(field.name, np.zeros((B, WIDTH))) for field in shown], axis=1)
    np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-5)
    assert outputs.shape[1:] == layer.compute_output_shape(dict.fromkeys(planned_ids, (None,)))[1:]
    assert {dim: tuple(table.shape) for dim, table in layer.tables.items()} == {"1": (8, 1), "2": (V + 4, 2)}
    np.testing.assert_array_equal(tables["item"], tables["cart"])
    assert (kernels["item"] != kernels["cart"]).all()


def test_values_by_field_can_be_read_and_assigned_back(planned_ids):
    layer, other = (PlannedEmbedding(PLAN, WIDTH, stddev=1.0, seed=seed) for seed in (0, 1))
    expected = layer(planned_ids)
    other.build(None)

    other.assign_by_field(layer.tables_by_field(), layer.kernels_by_field())

    np.testing.assert_array_equal(other(planned_ids), expected)
    for name, table in layer.tables_by_field().items():
        np.testing.assert_array_equal(other.tables_by_field()[name], table)
        np.testing.assert_array_equal(other.kernels_by_field()[name], layer.kernels_by_field()[name])


def test_a_planned_layer_without_values_has_none_to_give():
    with pytest.raises(ValueError, match=r"'planned' has no values yet\. Build it"):
        PlannedEmbedding(PLAN, WIDTH, name="planned").tables_by_field()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"vocabulary_size": 7},
            r"Fields 'item' and 'history' share table 'items' .* same vocabulary_size; received 6 and 7",
        ),
        ({"max_dim": 8}, "same max_dim; received 32 and 8"),
        ({"min_dim": 1}, "same min_dim; received 0 and 1"),
    ],
)
def test_fields_of_one_table_that_differ_are_refused(changes, message):
    fields = (FIELDS[0], Field(**(vars(FIELDS[2]) | changes)))

    with pytest.raises(ValueError, match=message):
        DimGrowEmbedding(fields)


def test_a_plan_whose_fields_of_one_table_differ_in_dimension_is_refused():
    with pytest.raises(
        ValueError, match=r"'item' and 'history' share table 'items' .* same dimension; received 2 and 3"
    ):
        EmbeddingPlan.from_dimensions([FIELDS[0], FIELDS[2]], {"item": 2, "history": 3})


def test_a_tables_name_is_not_that_of_a_field():
    fields = [Field(name="items", vocabulary_size=3), Field(name="item", vocabulary_size=5, table="items")]

    assert DimGrowEmbedding(fields).table_of == [0, 1]
