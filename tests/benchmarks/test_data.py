"""Rows: what is read, how it is split, and in which order it comes."""

import numpy as np
import pytest

from benchmarks.quality.data import GIVEN_SPLITS, halves, split_rows
from benchmarks.quality.npz import read_npz
from benchmarks.quality.tabular import make_ids, make_tokens, read_tabular


def test_npz_gives_its_fields_and_rows(arrays, write_npz):
    data = read_npz(write_npz(arrays))

    assert {field.name: field.vocabulary_size for field in data.fields} == {"user": 100, "hour": 20, "noise": 80}
    assert {split: data.num_rows(split) for split in data.ids} == {"train": 512, "search": 50, "stop": 51, "test": 128}
    np.testing.assert_array_equal(data.ids["test"], arrays["x_test"])


@pytest.mark.parametrize(
    ("key", "change", "message"),
    [
        ("y_valid", lambda y: None, "lacks y_valid"),
        ("x_train", lambda x: x[:, :2], r"clicks, train: ids must be integers of shape \[rows, 3\]"),
        ("x_test", lambda x: x.astype(np.float32), "clicks, test: ids must be integers"),
        ("x_train", lambda x: x + 1, r"field 'user' \(column 0\) must lie in \[0, 99\]; received 1 to 100"),
        ("x_valid", lambda x: x - 1, "clicks, validation: ids of field '.*received -1 to"),
        ("y_train", lambda y: y[:-1], "one label a row"),
        ("y_train", lambda y: y * 2, "labels must be 0 and 1, and both must occur; received 0.0, 2.0"),
        ("y_test", lambda y: y * 0, "both must occur; received 0.0"),
        ("vocabulary_sizes", lambda v: v[:-1], "received 3 field_names and 2 vocabulary_sizes"),
        ("vocabulary_sizes", lambda v: v * 1.5, "vocabulary_sizes must be integers"),
        ("field_names", lambda names: np.array(["a", "b", "a"]), "unique"),
        ("field_names", lambda names: names.astype(object), "cannot be read without pickle"),
    ],
)
def test_npz_that_does_not_fit_is_refused_by_name(arrays, write_npz, key, change, message):
    changed = change(arrays.pop(key))
    if changed is not None:
        arrays[key] = changed

    with pytest.raises(ValueError, match=message):
        read_npz(write_npz(arrays))


@pytest.mark.parametrize("text", [b"", b"not a zip file"])
def test_a_file_that_is_no_npz_is_refused(tmp_path, text):
    path = tmp_path / "broken.npz"
    path.write_bytes(text)

    with pytest.raises(ValueError, match=r"not an \.npz file"):
        read_npz(str(path))


def test_fingerprint_changes_with_one_id(arrays, write_npz):
    before = read_npz(write_npz(arrays)).fingerprint
    same = read_npz(write_npz(arrays)).fingerprint
    arrays["x_train"][3, 0] = (arrays["x_train"][3, 0] + 1) % 100

    assert before == same
    assert before != read_npz(write_npz(arrays)).fingerprint


def test_search_and_early_stopping_share_no_row(arrays, write_npz):
    first, second = halves(101)
    data = read_npz(write_npz(arrays))

    assert sorted([*first, *second]) == list(range(101))
    np.testing.assert_array_equal(data.ids["search"], arrays["x_valid"][first])
    np.testing.assert_array_equal(data.ids["stop"], arrays["x_valid"][second])


def test_splits_cover_all_rows_once_and_are_the_same_each_time():
    splits = split_rows(1000)

    assert sorted(np.concatenate(list(splits.values()))) == list(range(1000))
    assert [len(splits[split]) for split in GIVEN_SPLITS] == [700, 150, 150]
    np.testing.assert_array_equal(splits["test"], split_rows(1000)["test"])


def _passes(data, seed, num_passes=2):
    batches = data.train_batches(100, seed)
    return [np.concatenate([inputs["user"] for inputs, _ in batches]).tolist() for _ in range(num_passes)]


def test_training_batches_come_in_a_new_order_each_pass_and_again_alike(arrays, write_npz):
    data = read_npz(write_npz(arrays))

    first, second = _passes(data, seed=1)

    assert len(first) == 500
    assert data.train_batches(100, 1).cardinality() == 5
    assert first != second
    assert _passes(data, seed=1) == [first, second]
    assert _passes(data, seed=2)[0] != first


def test_batches_keep_ids_and_labels_of_a_row_together(arrays, write_npz):
    data = read_npz(write_npz(arrays))

    for batches in (data.train_batches(64, 0), data.batches("search")):
        for inputs, labels in batches:
            np.testing.assert_array_equal(inputs["hour"] % 2, labels)


def test_too_large_a_batch_is_refused(arrays, write_npz):
    with pytest.raises(ValueError, match="a batch has 1024 rows; received 512"):
        read_npz(write_npz(arrays)).train_batches(1024, 0)


def test_vocabulary_is_of_training_rows_and_rare_values_are_unknown():
    tokens = ["b", "b", "a", "a", "a", "rare", "<missing>", "new"]

    ids, size = make_ids(tokens, np.arange(7), min_frequency=2)

    assert ids.tolist() == [2, 2, 1, 1, 1, 3, 0, 3]
    assert size == 4


def test_integers_become_log_squared_buckets():
    assert make_tokens("integer", [0, 1, 2, 3, 100, None, -4], np.arange(7), 10) == [
        *("-2", "-1", "0", "1", "21", "<missing>", "-6")
    ]


def test_numbers_become_quantile_buckets_of_the_training_rows():
    values = [*range(1, 101), 1e9, None]

    tokens = make_tokens("numeric", values, np.arange(100), 4)

    assert [tokens.count(bucket) for bucket in "0123"] == [25, 25, 25, 26]
    assert tokens[-1] == "<missing>"


def test_adult_is_read_from_the_shipped_sample():
    data = read_tabular("adult", None)

    assert sum(data.num_rows(split) for split in data.ids) == 48_842
    assert len(data.fields) == 14
    assert data.truth is None


def test_taxi_without_its_file_says_where_to_get_it():
    with pytest.raises(ValueError, match=r"--taxi-csv PATH.*chicago_taxi_pipeline"):
        read_tabular("taxi", None)


def test_taxi_is_read_from_the_file_that_is_named(tmp_path):
    columns = (
        *(
            "pickup_community_area",
            "dropoff_community_area",
            "dropoff_census_tract",
            "trip_start_month",
            "trip_start_day",
        ),
        *("trip_start_hour", "payment_type", "company", "trip_seconds", "fare", "trip_miles", "trip_start_timestamp"),
        *("pickup_latitude", "pickup_longitude", "dropoff_latitude", "dropoff_longitude", "tips"),
    )
    lines = [",".join(columns)]
    for row in range(80):
        lines.append(",".join(str((row * (7 + i)) % (3 + i)) for i in range(len(columns) - 1)) + f",{row % 2 * 100}")
    path = tmp_path / "trips.csv"
    path.write_text("\n".join(lines))

    data = read_tabular("taxi", str(path))

    assert {field.name for field in data.fields} == set(columns) - {"tips"}
    assert [data.num_rows(split) for split in ("train", "search", "stop", "test")] == [56, 6, 6, 12]
