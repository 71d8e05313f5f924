"""Training steps follow from the size of the data."""

import pytest
import tensorflow as tf

from keras_dimgrow.steps import choose_batch_size, epochs_within, steps_for, steps_per_pass


def test_batches_grow_with_the_data():
    assert [choose_batch_size(rows) for rows in (49_999, 50_000, 999_999, 1_000_000)] == [256, 1024, 1024, 2048]


def test_steps_follow_from_the_data():
    data = tf.data.Dataset.range(100).batch(8)

    assert steps_for(data, 2.0, None) == 26
    assert steps_for(data, 0.5, None) == 6
    assert steps_for(data, 0.001, None) == 1
    assert steps_for(data, 2.0, 7) == 7


def test_batches_of_unknown_number_are_counted():
    assert steps_per_pass(tf.data.Dataset.range(100).filter(lambda i: i % 2 == 0).batch(8)) == 7


@pytest.mark.parametrize(
    ("data", "message"),
    [(tf.data.Dataset.range(3).repeat(), "repeats for ever"), (tf.data.Dataset.range(0), "no batch")],
)
def test_data_that_are_no_pass_are_refused(data, message):
    with pytest.raises(ValueError, match=rf"train_data must be one pass .* received a dataset that .*{message}"):
        steps_per_pass(data)


def test_whole_passes_within_a_number_of_steps_or_part_of_one():
    data = tf.data.Dataset.range(100).batch(8)  # 13 batches

    assert epochs_within(data, 5, None) == (5, 13)
    assert epochs_within(data, 5, 1000) == (5, 13)
    assert epochs_within(data, 5, 30) == (2, 13)
    assert epochs_within(data, 5, 7) == (1, 7)
