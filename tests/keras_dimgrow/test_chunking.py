"""FIITED's decisions, apart from any layer."""

import itertools
import json

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_dimgrow.chunking import ChunkConfig, choose_changes, choose_thresholds, hash_rows, mix_with_means

SEED = tf.constant([0, 0])
UTILITIES = tf.constant([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.6, 0.4]])


def test_one_ratio_gives_one_threshold_over_all_chunks():
    threshold = choose_thresholds(UTILITIES, 0.5, 100, SEED)

    assert threshold.numpy() == pytest.approx(0.4)
    assert np.count_nonzero(threshold < UTILITIES) == 4


def test_manual_ratios_give_each_chunk_a_threshold_of_its_own():
    np.testing.assert_allclose(choose_thresholds(UTILITIES, (0.25, 0.75), 100, SEED), [0.6, 0.3])


def test_at_ratio_0_nothing_is_below_the_threshold():
    assert choose_thresholds(tf.zeros([3, 2]), 0.0, 100, SEED) < 0


@pytest.mark.parametrize("ratios", [0.75, (0.5, 0.9)])
def test_a_sample_comes_near_the_threshold_of_all_and_is_the_same_for_the_same_seed(ratios):
    utilities = tf.random.stateless_uniform([20_000, 2], [1, 2])

    exact = choose_thresholds(utilities, ratios, 10**6, SEED)
    sampled = choose_thresholds(utilities, ratios, 2000, SEED)

    np.testing.assert_allclose(sampled, exact, atol=0.04)
    np.testing.assert_array_equal(sampled, choose_thresholds(utilities, ratios, 2000, SEED))
    assert not np.array_equal(sampled, choose_thresholds(utilities, ratios, 2000, SEED + 1))


def change(utilities, is_live, threshold, num_free):
    changes = choose_changes(
        tf.constant(utilities), tf.constant(is_live), tf.constant(threshold), tf.constant(num_free)
    )
    return [part.numpy().tolist() for part in changes]


def test_chunks_below_the_threshold_are_evicted_and_pruned_ones_above_it_allocated():
    assert change([[0.1, 0.9], [0.8, 0.2]], [[True, False], [True, True]], 0.5, 1) == [[0, 3], [1], 0]


def test_without_room_the_highest_utilities_come_first_and_the_others_are_counted():
    assert change([[0.7], [0.9], [0.8], [0.6]], [[False]] * 4, 0.5, 2) == [[], [1, 2], 2]


def test_chunks_at_the_threshold_stay_until_one_above_it_needs_their_slot():
    live = [[True], [True], [True], [False]]

    assert change([[0.0], [0.0], [3.0], [2.0]], live, 0.0, 0) == [[0], [3], 0]
    assert change([[0.0], [0.0], [3.0], [2.0]], live, 0.0, 1) == [[], [3], 0]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_no_decision_needs_more_slots_than_there_are_or_drops_a_chunk_while_one_is_free(data):
    count = data.draw(st.integers(1, 12))
    utilities = np.float32(data.draw(st.lists(st.integers(0, 4), min_size=count, max_size=count)))
    is_live = np.array(data.draw(st.lists(st.booleans(), min_size=count, max_size=count)))
    num_free, threshold = data.draw(st.integers(0, 4)), np.float32(data.draw(st.integers(-1, 4)))

    evicted, allocated, num_dropped = change(utilities[:, None], is_live[:, None], threshold, num_free)

    assert is_live[evicted].all()
    assert not is_live[allocated].any()
    assert len(set(evicted)) == len(evicted)
    assert len(set(allocated)) == len(allocated)
    assert set(evicted) >= set(np.flatnonzero(is_live & (utilities < threshold)))
    assert (utilities[evicted] <= threshold).all()
    assert (utilities[allocated] > threshold).all()
    left = num_free + len(evicted) - len(allocated)
    assert left >= 0
    assert num_dropped == np.count_nonzero(~is_live & (utilities > threshold)) - len(allocated)
    assert num_dropped == 0 or left == 0
    kept_out = np.setdiff1d(np.flatnonzero(~is_live & (utilities > threshold)), allocated)
    assert all(utilities[i] >= utilities[j] for i, j in itertools.product(allocated, kept_out))


def test_means_are_of_each_table_and_each_chunk():
    utilities = tf.constant([[1.0, 0.0], [3.0, 2.0], [5.0, 8.0]])

    np.testing.assert_allclose(mix_with_means(utilities, [0, 2], 1.0), [[2, 1], [2, 1], [5, 8]])
    np.testing.assert_allclose(mix_with_means(utilities, [0, 2], 0.5), [[1.5, 0.5], [2.5, 1.5], [5, 8]])


def test_hashed_rows_fill_the_entries_evenly():
    entries = hash_rows(tf.range(50_000, dtype=tf.int64), 100).numpy()

    counts = np.bincount(entries, minlength=100)
    assert len(counts) == 100
    assert abs(counts - 500).max() < 5 * 500**0.5
    assert len(set(np.diff(entries))) > 50


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"chunks": 0}, "chunks must be an integer >= 1; received chunks=0"),
        ({"pruning_ratio": 1.0}, r"pruning_ratio must be a number in \[0, 1\), or a tuple"),
        ({"pruning_ratio": (0.5, 0.6, 0.7)}, r"2 numbers in \[0, 1\], one for each chunk"),
        ({"pruning_ratio": (1.0, 1.0)}, "not all of them 1"),
        ({"parameter_budget": "1MB"}, "Set the other to None"),
        ({"pruning_ratio": None}, "Set the other to None"),
        ({"pruning_ratio": None, "parameter_budget": -3}, "parameter_budget must be a share"),
        ({"decay": 1.0}, "decay must be a number > 0 and < 1"),
        ({"utility": "magic"}, "utility must be one of gradient, access"),
        ({"feature_share": 1.5}, "feature_share must be a number >= 0.0 and <= 1.0"),
        ({"entries": 5, "feature_share": 0.5}, "belongs to no table"),
    ],
)
def test_a_config_that_cannot_work_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        ChunkConfig(**options)


def test_a_config_goes_through_json():
    config = ChunkConfig(chunks=4, pruning_ratio=(0.1, 0.5, 0.7, 0.9), entries=10)

    assert ChunkConfig.from_json(config.to_json()) == config
    with pytest.raises(ValueError, match="Did you mean 'chunks'"):
        ChunkConfig.from_dict(json.loads('{"chunk": 2}'))
