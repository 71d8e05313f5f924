"""Shuffles: permutations of each column, set by the seed alone."""

import numpy as np
import pytest
import tensorflow as tf

from keras_dimgrow.shuffle import BLOCK, MIN_ROWS_FOR_BLOCKS, SHUFFLES, cyclic_shift, random_permutation

B, D = 64, 16


def column_marked(num_rows: int = B, num_dims: int = D) -> tf.Tensor:
    """Row b, column k holds 1000 k + b: a value says where it came from."""
    return tf.range(num_rows, dtype=tf.float32)[:, None] + 1000.0 * tf.range(num_dims, dtype=tf.float32)[None, :]


@pytest.fixture(params=sorted(SHUFFLES))
def shuffle(request):
    return SHUFFLES[request.param]


def test_each_column_is_a_permutation_of_its_own_rows(shuffle):
    s = column_marked()

    np.testing.assert_array_equal(np.sort(shuffle(s, [1, 2]), axis=0), s)


def test_columns_move_independently(shuffle):
    sources = shuffle(column_marked(), [1, 2]).numpy() % 1000

    assert len({tuple(column) for column in sources.T}) > D / 2


def test_the_seed_decides(shuffle):
    s = column_marked()

    np.testing.assert_array_equal(shuffle(s, [1, 2]), shuffle(s, [1, 2]))
    assert (shuffle(s, [1, 2]).numpy() != shuffle(s, [1, 3]).numpy()).any()
    assert (shuffle(s, [1, 2]).numpy() != shuffle(s, [2, 2]).numpy()).any()


@pytest.mark.parametrize("shape", [(1, 4), (4, 1), (1, 1), (4, 0)])
def test_the_smallest_inputs_keep_their_shape_and_values(shuffle, shape):
    s = column_marked(*shape)

    np.testing.assert_array_equal(np.sort(shuffle(s, [0, 0]), axis=0), s)


def test_shapes_may_be_unknown_while_tracing(shuffle):
    traced = tf.function(lambda s: shuffle(s, [1, 2]), input_signature=[tf.TensorSpec([None, None])], autograph=False)

    for shape in ((8, 3), (5, 7)):
        np.testing.assert_array_equal(traced(column_marked(*shape)), shuffle(column_marked(*shape), [1, 2]))


def test_gradients_flow_back_to_the_row_that_a_value_came_from(shuffle):
    s = tf.Variable(column_marked(8, 2))
    weights = tf.constant(np.random.default_rng(0).normal(size=(8, 2)), tf.float32)

    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(shuffle(s, [3, 4]) * weights)

    sources = shuffle(column_marked(8, 2), [3, 4]).numpy().astype(int) % 1000
    expected = np.zeros((8, 2))
    for k in range(2):
        expected[sources[:, k], k] = weights.numpy()[:, k]
    np.testing.assert_allclose(tf.convert_to_tensor(tape.gradient(loss, s)), expected)


@pytest.mark.parametrize("num_rows", [2, 3, 17, B])
def test_the_cyclic_shift_leaves_no_row_in_its_place(num_rows):
    s = column_marked(num_rows)

    for step in range(20):
        assert (cyclic_shift(s, [0, step]).numpy() != s.numpy()).all()


def test_the_cyclic_shift_draws_every_other_row_about_equally_often():
    counts = np.zeros(8)
    for step in range(200):
        counts += np.bincount(cyclic_shift(column_marked(8, D), [5, step]).numpy()[0].astype(int) % 1000, minlength=8)

    expected = 200 * D / 7
    assert counts[0] == 0
    np.testing.assert_allclose(counts[1:], expected, atol=5 * expected**0.5)


def test_algorithm_1_draws_every_row_about_equally_often():
    counts = np.zeros(8)
    for step in range(200):
        drawn = random_permutation(column_marked(8, D), [5, step]).numpy()[0].astype(int) % 1000
        counts += np.bincount(drawn, minlength=8)

    expected = 200 * D / 8
    np.testing.assert_allclose(counts, expected, atol=5 * expected**0.5)


# Shifts by whole blocks, in large batches.


def rows_of_origin(shuffled: tf.Tensor, num_rows: int) -> np.ndarray:
    """Row that each value came from, [B, D], of shuffled `wide_marked` rows."""
    return shuffled.numpy().astype(int) % (2 * num_rows)


def wide_marked(num_rows: int, num_dims: int = 3) -> tf.Tensor:
    """As `column_marked`, for batches of more than 1000 rows."""
    return tf.range(num_rows, dtype=tf.float32)[:, None] + 2.0 * num_rows * tf.range(num_dims, dtype=tf.float32)[None]


@pytest.mark.parametrize(
    ("num_rows", "block"),
    [(MIN_ROWS_FOR_BLOCKS, BLOCK), (2048, BLOCK), (1016, 1), (MIN_ROWS_FOR_BLOCKS + 1, 1), (1028, 1)],
)
def test_large_batches_of_whole_blocks_are_shifted_by_blocks_and_others_by_rows(num_rows, block):
    s, offsets = wide_marked(num_rows), []

    for step in range(12):
        sources = rows_of_origin(cyclic_shift(s, [0, step]), num_rows)
        np.testing.assert_array_equal(np.sort(sources, axis=0), np.arange(num_rows)[:, None].repeat(3, 1))
        shifts = (sources - np.arange(num_rows)[:, None]) % num_rows
        assert (shifts == shifts[0]).all()
        offsets += shifts[0].tolist()

    assert 0 not in offsets
    assert np.gcd.reduce(offsets) == block
    assert len(set(offsets)) > 20  # columns move independently, and so does each step


def test_shifts_by_blocks_draw_every_offset():
    s, offsets = wide_marked(MIN_ROWS_FOR_BLOCKS, 64), set()

    for step in range(40):
        offsets |= set((rows_of_origin(cyclic_shift(s, [1, step]), MIN_ROWS_FOR_BLOCKS)[0]).tolist())

    assert offsets == set(range(BLOCK, MIN_ROWS_FOR_BLOCKS, BLOCK))


def test_shapes_may_be_unknown_where_batches_are_shifted_by_blocks():
    traced = tf.function(
        lambda s: cyclic_shift(s, [1, 2]), input_signature=[tf.TensorSpec([None, None])], autograph=False
    )

    for num_rows in (1024, 1025, 8, 2048):
        s = wide_marked(num_rows)
        np.testing.assert_array_equal(traced(s), cyclic_shift(s, [1, 2]))


def test_gradients_flow_back_through_shifts_by_blocks():
    s = tf.Variable(wide_marked(1024, 2))
    weights = tf.constant(np.random.default_rng(0).normal(size=(1024, 2)), tf.float32)

    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(cyclic_shift(s, [3, 4]) * weights)

    sources = rows_of_origin(cyclic_shift(wide_marked(1024, 2), [3, 4]), 1024)
    expected = np.zeros((1024, 2))
    for k in range(2):
        expected[sources[:, k], k] = weights.numpy()[:, k]
    np.testing.assert_allclose(tf.convert_to_tensor(tape.gradient(loss, s)), expected)


def test_shifts_by_blocks_compile_with_xla():
    s = wide_marked(1024)

    compiled = tf.function(lambda: cyclic_shift(s, [1, 2]), jit_compile=True)()

    np.testing.assert_array_equal(compiled, cyclic_shift(s, [1, 2]))


# Groups of columns.


@pytest.mark.parametrize("num_rows", [17, 1024])
def test_columns_of_a_group_move_together_and_groups_by_themselves(shuffle, num_rows):
    groups = [0, 0, 0, 1, 2, 2, 3]
    s = wide_marked(num_rows, len(groups))

    sources = rows_of_origin(shuffle(s, [1, 2], tf.constant(groups)), num_rows)

    np.testing.assert_array_equal(np.sort(sources, axis=0), np.arange(num_rows)[:, None].repeat(len(groups), 1))
    assert len({tuple(column) for column in sources.T}) == 4
    for group in range(4):
        columns = sources[:, np.array(groups) == group]
        assert (columns == columns[:, :1]).all()


def test_groups_of_one_column_are_no_groups(shuffle):
    s = column_marked()

    np.testing.assert_array_equal(shuffle(s, [1, 2], tf.range(D)), shuffle(s, [1, 2]))
