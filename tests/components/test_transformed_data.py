import numpy as np
import pytest
import tensorflow as tf
import tensorflow_transform as tft
from google.protobuf import text_format

from components import transformed_data
from components.transformed_data import fields_of, read_split
from tests.components.conftest import VOCABULARY_SIZES, make_schema


def write_graph(directory, sizes):
    metadata = directory / "transformed_metadata"
    metadata.mkdir(parents=True)
    (metadata / "schema.pbtxt").write_text(text_format.MessageToString(make_schema(sizes)))
    return tft.TFTransformOutput(str(directory))


def files_of(transform_output, split="train"):
    return tf.io.gfile.glob(f"{transform_output[0].uri}/Split-{split}/*")


@pytest.fixture
def fields(transform_output):
    return fields_of(tft.TFTransformOutput(transform_output[1].uri), "click")


def rows_of(batches):
    return sorted(
        (*(int(ids[name][i]) for name in VOCABULARY_SIZES), float(labels[i]))
        for ids, labels in batches.as_numpy_iterator()
        for i in range(len(labels))
    )


def test_fields_are_the_categorical_features_but_the_label(fields):
    assert {field.name: field.vocabulary_size for field in fields} == VOCABULARY_SIZES


def test_a_vocabulary_without_a_value_names_the_field_and_the_cure(tmp_path):
    graph = write_graph(tmp_path, {"city": 2})

    with pytest.raises(ValueError, match=r"Field 'city': its vocabulary holds no value.*min_frequency"):
        fields_of(graph, "click")


def test_a_schema_without_fields_is_an_error(tmp_path):
    graph = write_graph(tmp_path, {})

    with pytest.raises(ValueError, match="nothing to embed"):
        fields_of(graph, "click")


def test_the_batch_size_follows_from_the_rows_unless_it_is_given(transform_output, fields, monkeypatch):
    files = files_of(transform_output)
    for max_bytes in (transformed_data.MAX_BYTES_IN_MEMORY, 0):  # held in memory, streamed
        monkeypatch.setattr(transformed_data, "MAX_BYTES_IN_MEMORY", max_bytes)
        sizes = [
            read_split(files, fields, "click", size, shuffle_seed=0).element_spec[1].shape[0] for size in (None, 100)
        ]
        assert sizes == [256, 100]


def test_batches_hold_every_row_once_in_the_order_of_the_files(transform_output, fields):
    batches = list(read_split(files_of(transform_output, "eval"), fields, "click", 150).as_numpy_iterator())

    assert [len(labels) for _, labels in batches] == [150, 150, 100]
    assert all(ids[name].dtype == np.int32 for ids, _ in batches for name in VOCABULARY_SIZES)


def test_shuffled_passes_differ_but_repeat_with_the_seed(transform_output, fields):
    def labels_of_two_passes(seed):
        batches = read_split(files_of(transform_output), fields, "click", 100, shuffle_seed=seed).repeat(2)
        return [labels.tolist() for _, labels in batches.as_numpy_iterator()]

    first, again, other = (labels_of_two_passes(seed) for seed in (1, 1, 2))

    assert first == again
    assert first != other
    assert first[:15] != first[15:]


def test_a_shuffled_pass_holds_every_row_once(transform_output, fields):
    files = files_of(transform_output)

    shuffled = read_split(files, fields, "click", 100, shuffle_seed=1)

    assert rows_of(shuffled) == rows_of(read_split(files, fields, "click", 100))


def test_a_split_above_the_memory_limit_is_streamed_with_the_same_rows(transform_output, fields, monkeypatch):
    files = files_of(transform_output)
    expected = rows_of(read_split(files, fields, "click", 100))
    monkeypatch.setattr(transformed_data, "MAX_BYTES_IN_MEMORY", 0)

    assert rows_of(read_split(files, fields, "click", 100)) == expected
    assert rows_of(read_split(files, fields, "click", 100, shuffle_seed=1)) == expected


@pytest.mark.parametrize("max_bytes", [2**30, 0], ids=["in memory", "streamed"])
@pytest.mark.parametrize(("seed", "num_batches"), [(1, 21), (None, 22)], ids=["shuffled", "in order"])
def test_the_number_of_batches_is_known_and_true(transform_output, fields, monkeypatch, max_bytes, seed, num_batches):
    monkeypatch.setattr(transformed_data, "MAX_BYTES_IN_MEMORY", max_bytes)

    batches = read_split(files_of(transform_output), fields, "click", 70, shuffle_seed=seed)

    assert int(batches.cardinality()) == len(list(batches)) == num_batches


def test_a_split_smaller_than_a_batch_is_one_batch(transform_output, fields):
    batches = list(read_split(files_of(transform_output, "eval"), fields, "click", 1000, shuffle_seed=1))

    assert len(batches) == 1


def test_no_files_is_an_error(fields):
    with pytest.raises(ValueError, match="does the split exist"):
        read_split([], fields, "click", 10)


def test_a_split_without_rows_names_the_directory(tmp_path, fields):
    path = tmp_path / "Split-eval" / "part.gz"
    path.parent.mkdir()
    with tf.io.TFRecordWriter(str(path), "GZIP"):
        pass

    with pytest.raises(ValueError, match=r"No rows in .*Split-eval"):
        read_split([str(path)], fields, "click", 10)
