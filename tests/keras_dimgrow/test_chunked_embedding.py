"""ChunkedEmbedding in training: what learns, who owns which chunk, and what survives saving."""

import tempfile

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_dimgrow import (
    ChunkConfig,
    ChunkedEmbedding,
    Field,
    LazyAdam,
    ModelConfig,
    build_model,
    growable,
)

V, D, K = 6, 4, 2
CITY = Field(name="city", vocabulary_size=V, max_dim=D)


def make(fields=(CITY,), stddev=1.0, **config) -> ChunkedEmbedding:
    layer = ChunkedEmbedding(list(fields), ChunkConfig(**config), adapter_width=3, stddev=stddev, seed=0)
    layer.build({field.name: (None,) for field in fields})
    return layer


def store_of(layer):
    [store] = layer.stores.values()
    return store


def access(layer, ids, slope=1.0, optimizer=None):
    """A training step whose loss has gradient `slope` ([D] or a number) in the embedding of each id."""
    store = store_of(layer)
    with tf.GradientTape() as tape:
        [rows] = layer.embed({"city": tf.cast(ids, tf.int32)}, training=True)
        loss = tf.reduce_sum(rows * tf.cast(slope, rows.dtype))
    gradient = tape.gradient(loss, store.pool.value)
    if optimizer is not None:
        optimizer.apply([gradient], [store.pool])
    return gradient


def check_invariants(store):
    """No slot is owned twice, owned and free slots are all slots, no chunk owns row 0, and row 0 is 0."""
    index, num_free = store.index.numpy(), int(store.num_free.numpy())
    owned, free = index[index > 0], store.free.numpy()[:num_free]
    assert index.min() >= 0
    assert sorted([*owned, *free]) == list(range(1, store.num_slots + 1))
    assert not store.pool.numpy()[0].any()
    rows = store.rows().reshape(-1, store.config.chunks, store.chunk_width)
    pruned = index[store.entries_of(tf.range(store.num_rows, dtype=tf.int64)).numpy()] == 0
    assert not rows[pruned].any()
    assert rows[~pruned].any(-1).all()


def test_pruned_chunks_are_zeros_and_no_gradient_reaches_them():
    layer = make(pruning_ratio=(0.0, 0.5))

    table = layer.tables_by_field()["city"]
    gradient = access(layer, [0, 5, 5], [1, 2, 3, 4])

    assert table[:3].all()
    assert table[3:, :2].all()
    assert not table[3:, 2:].any()
    index = store_of(layer).index.numpy()
    assert sorted(gradient.indices.numpy()) == sorted([index[0, 0], index[0, 1], index[5, 0]])
    by_slot = dict(zip(gradient.indices.numpy(), gradient.values.numpy().tolist(), strict=True))
    assert by_slot == {index[0, 0]: [1, 2], index[0, 1]: [3, 4], index[5, 0]: [2, 4]}


def test_without_pruning_it_trains_as_a_plain_table_does():
    layer = make(pruning_ratio=0.0, period=2)
    table = keras.Variable(layer.tables_by_field()["city"])
    ours, plain = LazyAdam(0.1), LazyAdam(0.1)

    for ids in ([0, 1, 1], [2, 5, 5, 5], [1], [0, 2], [4, 1, 4]):
        access(layer, ids, [1, -2, 3, 4], ours)
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tf.gather(table.value, ids) * [1.0, -2.0, 3.0, 4.0])
        plain.apply([tape.gradient(loss, table.value)], [table])

    np.testing.assert_allclose(layer.tables_by_field()["city"], table, rtol=1e-5)
    assert layer.summary()["evicted"] == 0


def test_rows_that_two_look_ups_of_one_step_share_get_the_sum_of_their_gradients():
    pools = []
    for calls in ([[0, 1, 1], [5, 1]], [[0, 1, 1, 5, 1]]):
        layer, optimizer = make(pruning_ratio=0.5), LazyAdam(0.1)
        for slope in ([1.0, -2.0, 3.0, 4.0], [-0.5, 1.0, 2.0, 0.1]):
            with tf.GradientTape() as tape:
                rows = [layer.embed({"city": tf.constant(ids)}, training=True)[0] for ids in calls]
                loss = tf.reduce_sum(tf.concat(rows, axis=0) * slope)
            pool = store_of(layer).pool
            optimizer.apply([tape.gradient(loss, pool.value)], [pool])
        pools.append(pool.numpy())
        assert pool.num_look_ups.numpy() == 0

    np.testing.assert_allclose(*pools, rtol=1e-6)


@pytest.mark.parametrize("utility", ["gradient", "access"])
def test_utilities_are_those_of_the_formula_for_live_and_pruned_chunks(utility):
    # With this decay, stored utilities are rescaled after 19 steps.
    decay = 0.25
    layer = make(pruning_ratio=0.75, decay=decay, utility=utility, period=1000)
    step = access_step(layer)
    rng = np.random.default_rng(0)
    expected = np.zeros((V, K))

    for _ in range(25):
        ids, slope = rng.integers(0, V, 4), rng.normal(size=D).astype("float32")
        step(ids, slope)
        counts = np.bincount(ids, minlength=V)[:, None]
        norms = np.linalg.norm(slope.reshape(K, -1), axis=1)
        # The gradient of a chunk is the sum over its places: a(i) g(i) = count * (count * norm).
        expected = decay * expected + (counts * counts * norms if utility == "gradient" else counts)

    np.testing.assert_allclose(store_of(layer).current_utilities(), expected, rtol=1e-4)
    assert store_of(layer).rescaled_at.numpy() == 19


def access_step(layer):
    """`access` in a graph, for utilities only."""
    step = tf.function(lambda ids, slope: access(layer, ids, slope).values)
    return lambda ids, slope=1.0: step(tf.constant(ids, tf.int32), tf.constant(slope, tf.float32))


def test_a_shared_table_counts_the_accesses_of_all_its_fields_in_one_step():
    fields = [
        Field(name="city", vocabulary_size=V, max_dim=D, table="cities"),
        Field(name="visited", vocabulary_size=V, max_dim=D, table="cities", combiner="sum", missing_id=-1),
    ]
    layer = make(fields, utility="access")
    with tf.GradientTape() as tape:
        [rows] = layer.embed({"city": np.array([1, 2]), "visited": np.array([[1, 1], [3, -1]])}, training=True)
        loss = tf.reduce_sum(rows)
    tape.gradient(loss, store_of(layer).pool.value)

    np.testing.assert_array_equal(store_of(layer).current_utilities()[:, 0], [0, 3, 1, 1, 0, 0])
    assert store_of(layer).steps.numpy() == 1


def test_importance_that_moves_takes_the_chunks_with_it():
    layer = make(pruning_ratio=0.5, decay=0.8, period=10)
    step = access_step(layer)

    owners = []
    for hot in ([4, 5, 5, 5], [1, 0, 0, 0]):
        for _ in range(31):
            step([*hot, 2])
        owners.append(layer.live_chunks()["city"])

    assert owners[0][5] == owners[0][4] == K
    assert owners[0][0] == owners[0][1] == 0
    assert owners[1][0] == owners[1][1] == K
    assert owners[1][4] == owners[1][5] == 0
    assert layer.summary()["evicted"] >= 4
    check_invariants(store_of(layer))


def test_the_chunks_of_a_row_are_neighbours_in_the_pool():
    layer = make(pruning_ratio=0.5, period=2)
    store = store_of(layer)
    assert store.index.numpy()[:3].tolist() == [[1, 2], [3, 4], [5, 6]]

    for ids in ([0, 1, 2], [3, 4, 4, 5, 5, 5], [3]):
        access(layer, ids)

    assert (np.diff(store.index.numpy()[3:]) == 1).all()
    assert store.counts.numpy()[1] == 6


def test_ids_get_chunks_again_with_fresh_values_and_fresh_slots_of_the_optimizer():
    layer = make(pruning_ratio=0.5, period=2)
    optimizer = growable(keras.optimizers.Adagrad(0.1, initial_accumulator_value=0.5))
    store = store_of(layer)
    for ids in ([0, 1, 2], [3, 4, 5] * 3):
        access(layer, ids, optimizer=optimizer)
    before = store.pool.numpy()

    access(layer, [3], optimizer=optimizer)

    [(_, accumulator)] = optimizer.slots_of(store.pool)
    index = store.index.numpy()
    assert (index[:3] == 0).all()
    assert (index[3:] > 0).all()
    # Id 3 had one step of gradient 1 since; 4 and 5 had none, whatever the slots' last owners had.
    np.testing.assert_allclose(accumulator.numpy()[index[3]], 1.5)
    np.testing.assert_allclose(accumulator.numpy()[index[4:]], 0.5)
    assert (store.pool.numpy()[index[3:]] != before[index[3:]]).all()
    assert store.pool.num_fresh.numpy() == 0
    check_invariants(store)


def test_rows_without_reset_stay_marked_where_the_optimizer_does_not_reset_them():
    layer = make(pruning_ratio=0.5, period=1)
    optimizer = keras.optimizers.Adam(0.1)
    for ids in ([0], [5, 5], [5]):
        access(layer, ids, optimizer=optimizer)

    assert store_of(layer).pool.num_fresh.numpy() == store_of(layer).counts.numpy()[1] > 0
    check_invariants(store_of(layer))


@pytest.mark.parametrize(
    "optimizer",
    [
        LazyAdam(0.1),
        keras.optimizers.Adam(0.1, weight_decay=0.1),
        keras.optimizers.SGD(0.1, momentum=0.9, nesterov=True, clipnorm=1.0),
        keras.optimizers.Ftrl(0.1),
        keras.optimizers.Lion(0.1, global_clipnorm=1.0),
        growable(keras.optimizers.RMSprop(0.1, use_ema=True, ema_overwrite_frequency=2)),
        growable(keras.optimizers.Adam(0.1, gradient_accumulation_steps=2)),
    ],
    ids=lambda optimizer: type(optimizer).__name__,
)
def test_no_optimizer_moves_what_pruned_chunks_read(optimizer):
    layer = make(pruning_ratio=0.5, period=2)
    for ids in ([0, 1], [4, 5, 5], [5, 3], [5], [5, 4]):
        access(layer, ids, optimizer=optimizer)

    assert store_of(layer).counts.numpy()[1] > 0
    check_invariants(store_of(layer))


def test_a_burst_of_new_ids_is_served_as_far_as_the_pool_reaches_and_counted():
    fields = [Field(name="city", vocabulary_size=1000, max_dim=D)]
    # The sample is of an id that is not in use: all others seem important.
    layer = make(fields, pruning_ratio=0.95, period=1, sample_size=1)
    access(layer, np.arange(400, 500))
    access(layer, np.arange(400, 500))

    summary = layer.summary()
    # Chunks that had slots before the burst gave way: 100 of the 200 in use have one now.
    assert summary["used"] == summary["slots"] == 100
    assert layer.live_chunks()["city"][400:500].sum() == 100
    assert summary["dropped"] == 100
    check_invariants(store_of(layer))


def test_a_feature_share_of_1_prunes_whole_fields():
    fields = [Field(name=name, vocabulary_size=4, max_dim=D) for name in ("city", "user")]
    layer = make(fields, pruning_ratio=0.5, feature_share=1.0, period=1)
    for _ in range(2):
        with tf.GradientTape() as tape:
            [rows] = layer.embed({"city": np.array([0, 1]), "user": np.array([3, 3])}, training=True)
            loss = tf.reduce_sum(rows * [[[1.0], [5.0]]])
        tape.gradient(loss, store_of(layer).pool.value)

    assert layer.mean_dimensions() == {"city": 0.0, "user": D}


def test_with_access_counts_and_rising_ratios_second_chunks_go_first():
    layer = make(pruning_ratio=(0.5, 0.8), utility="access", period=3)
    step = access_step(layer)
    for _ in range(7):
        step([1, 2, 2, 3, 3, 3, 4, 4, 4, 4])

    is_live = store_of(layer).index.numpy() > 0
    assert is_live.any(axis=0).all()
    assert (is_live[:, 0] >= is_live[:, 1]).all()
    assert layer.live_chunks()["city"][4] == 2


def test_hashed_ids_share_entries_and_their_chunks():
    layer = make([Field(name="city", vocabulary_size=100, max_dim=D)], pruning_ratio=0.0, entries=10)

    table = layer.tables_by_field()["city"]
    access(layer, np.arange(100))

    assert len(np.unique(table, axis=0)) == 10
    assert store_of(layer).utilities.shape == (10, K)
    assert (store_of(layer).current_utilities().numpy() > 0).all()


def test_rows_start_with_the_chunks_of_a_plan_as_far_as_the_pool_reaches():
    fields = [Field(name=name, vocabulary_size=4, max_dim=8) for name in ("city", "user")]
    layer = make(fields, chunks=4, pruning_ratio=0.5)

    layer.start_with({"city": 3, "user": 5})  # 1.5 and 2.5 chunks

    live = layer.live_chunks()
    assert live["city"].tolist() == [2, 2, 1, 1]
    assert live["user"].tolist() == [3, 3, 2, 2]
    check_invariants(store_of(layer))
    layer.start_with({"city": 8, "user": 8})
    assert layer.live_chunks()["city"].tolist() == layer.live_chunks()["user"].tolist() == [2, 2, 2, 2]
    check_invariants(store_of(layer))


def test_each_chunk_width_has_a_pool_and_the_budget_is_spent_over_all():
    fields = [Field(name="city", vocabulary_size=10, max_dim=4), Field(name="user", vocabulary_size=10, max_dim=8)]
    layer = make(fields, pruning_ratio=None, parameter_budget=60)

    assert [store.pool.shape for store in layer.stores.values()] == [(11, 2), (11, 4)]
    assert sum(store.num_slots * store.chunk_width for store in layer.stores.values()) == 60


def test_gradients_that_overflow_make_no_utility_infinite():
    layer = make()
    access(layer, [0, 1], [np.inf, 1.0, 1.0, 1.0])

    utilities = store_of(layer).current_utilities().numpy()
    assert np.isfinite(utilities).all()
    assert (utilities[:2, 0] == 0).all()
    assert (utilities[:2, 1] > 0).all()


# How steps are run, and whether they are interrupted in the middle of a period, changes nothing.


def new_model(planted, optimizer=None, steps_per_execution=1, seed=0):
    config = ChunkConfig(period=3, sample_size=50)
    layer = ChunkedEmbedding(planted.fields, config, 4, "per_field", seed=seed)
    model = build_model(layer, ModelConfig(backbone="fm", adapter_width=4), seed=0)
    model.compile(optimizer or LazyAdam(0.01), "binary_crossentropy", steps_per_execution=steps_per_execution)
    model.optimizer.build(model.trainable_variables)
    return model


def fit(model, planted, epochs):
    """`epochs` of 4 steps each."""
    model.fit(planted.batches(is_shuffled=False), epochs=epochs, shuffle=False, verbose=0)
    return model


def state(model):
    return [variable.numpy() for variable in model.embedding.variables]


@pytest.fixture(scope="module")
def uninterrupted(planted, tmp_path_factory):
    """A model that was saved after 4 steps, where it was saved, its state after 4 and 12 steps, and its traces then."""
    model, traces = new_model(planted), []
    call = model.embedding.call

    def counting_call(*args, **kwargs):
        traces.append(1)
        return call(*args, **kwargs)

    model.embedding.call = counting_call
    states, counts = [], []
    folder = tmp_path_factory.mktemp("saved")
    for epochs in (1, 2):
        fit(model, planted, epochs)
        states.append(state(model))
        counts.append(len(traces))
        if epochs == 1:
            model.save(folder / "model.keras")
            model.save_weights(folder / "model.weights.h5")
            tf.train.Checkpoint(model=model).write(str(folder / "model"))
    return model, folder, states, counts


def test_prunings_do_not_retrace(uninterrupted):
    model, _, _, counts = uninterrupted

    assert counts[0] == counts[1]
    assert store_of(model.embedding).prune_seed.numpy()[1] == 3
    assert model.embedding.summary()["evicted"] > 0


def test_several_steps_in_one_execution_are_the_same_steps(planted, uninterrupted):
    model = fit(new_model(planted, steps_per_execution=4), planted, 1)

    for value, expected in zip(state(model), uninterrupted[2][0], strict=True):
        np.testing.assert_allclose(value, expected, rtol=1e-6)


def test_scaled_losses_leave_utilities_as_they_are(planted, uninterrupted):
    scaled = keras.optimizers.LossScaleOptimizer(LazyAdam(0.01), initial_scale=2.0**12)

    model = fit(new_model(planted, scaled), planted, 1)

    for value, expected in zip(state(model), uninterrupted[2][0], strict=True):
        np.testing.assert_allclose(value, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("way", ["file", "weights", "checkpoint"])
def test_a_model_restored_in_the_middle_of_a_period_goes_on_exactly(planted, uninterrupted, way):
    _, folder, states, _ = uninterrupted
    if way == "file":
        model = keras.saving.load_model(folder / "model.keras")
    else:
        model = new_model(planted, seed=None)
        if way == "weights":
            model.load_weights(folder / "model.weights.h5")
        else:
            tf.train.Checkpoint(model=model).read(str(folder / "model")).assert_consumed()

    fit(model, planted, 2)

    for value, expected in zip(state(model), states[1], strict=True):
        np.testing.assert_array_equal(value, expected)


ACTIONS = st.lists(
    st.one_of(
        st.lists(st.integers(0, V - 1), min_size=1, max_size=6),
        st.sampled_from(["prune", "save and load"]),
    ),
    max_size=8,
)


@settings(max_examples=15, deadline=None)
@given(ACTIONS, st.sampled_from([0.0, 0.3, 0.75, (0.2, 0.9)]), st.sampled_from([3, 1000]))
def test_the_store_is_consistent_after_any_sequence_of_access_pruning_saving_and_loading(actions, ratio, sample_size):
    def new(seed):
        layer = ChunkedEmbedding(
            [CITY], ChunkConfig(pruning_ratio=ratio, period=3, sample_size=sample_size), 3, stddev=1.0, seed=seed
        )
        layer.build({"city": (None,)})
        optimizer = LazyAdam(0.1)
        optimizer.build([store_of(layer).pool])
        return layer, optimizer

    layer, optimizer = new(0)
    for action in actions:
        if action == "prune":
            store_of(layer).prune()
        elif action == "save and load":
            other, other_optimizer = new(1)
            with tempfile.TemporaryDirectory() as folder:
                path = tf.train.Checkpoint(layer=layer, optimizer=optimizer).write(f"{folder}/state")
                tf.train.Checkpoint(layer=other, optimizer=other_optimizer).read(path).assert_consumed()
            for variable, twin in zip(layer.variables, other.variables, strict=True):
                np.testing.assert_array_equal(variable.numpy(), twin.numpy())
            layer, optimizer = other, other_optimizer
        else:
            access(layer, action, optimizer=optimizer)
        check_invariants(store_of(layer))
        summary = layer.summary()
        assert summary["used"] == np.count_nonzero(store_of(layer).index.numpy()) <= summary["slots"]


# Bad input.


def test_chunks_that_do_not_divide_a_field_are_refused():
    with pytest.raises(ValueError, match=r"field 'city': the number of chunks must divide max_dim; received chunks=3"):
        make(chunks=3)


def test_a_budget_smaller_than_a_chunk_is_refused():
    with pytest.raises(ValueError, match=r"must have 1 to 2\^31 - 2 slots; received 0 slots of 2 numbers for 6 rows"):
        make(pruning_ratio=None, parameter_budget=1)


def test_fields_of_one_table_with_different_dimensions_are_refused():
    fields = [Field(name=f"city{dim}", vocabulary_size=V, max_dim=dim, table="cities") for dim in (4, 8)]
    with pytest.raises(ValueError, match="must have the same max_dim"):
        make(fields)


def test_ids_outside_the_vocabulary_are_refused():
    layer = ChunkedEmbedding([CITY], adapter_width=3, check_ids=True)
    with pytest.raises(ValueError, match=r"field 'city': ids must be in 0 .. 5; received 6 in row 1"):
        layer({"city": np.array([0, V])})
    with pytest.raises(tf.errors.InvalidArgumentError, match="ids outside 0"):
        tf.function(layer)({"city": tf.constant([0, V])})


def test_a_strategy_with_replicas_is_refused(monkeypatch):
    class Two:
        num_replicas_in_sync = 2

    layer = ChunkedEmbedding([CITY])
    # Stands for a MirroredStrategy of two devices, which a test does not have.
    monkeypatch.setattr(tf.distribute, "get_strategy", Two)

    with pytest.raises(ValueError, match="trains on one replica; received a distribution strategy with 2"):
        layer.build({"city": (None,)})


def test_more_chunks_than_can_be_counted_are_refused():
    with pytest.raises(ValueError, match=r"entries times chunks must be below 2\^31; received 400000000 entries"):
        ChunkedEmbedding([Field(name="user", vocabulary_size=400_000_000)], ChunkConfig(chunks=8, pruning_ratio=0.9))
