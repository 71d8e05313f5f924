import gc
import resource
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_transform as tft
from google.protobuf import text_format

from components import row_files, transformed_data
from components.row_blocks import decode_block, encode_block
from components.transformed_data import fields_of, read_split
from keras_dimgrow import Field
from tests.components.conftest import VOCABULARY_SIZES, make_schema, write_blocks, write_rows


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


SORTED_FIELDS = [Field(name="day", vocabulary_size=100), Field(name="row", vocabulary_size=40_000)]


@pytest.fixture(scope="module", params=["blocks", "rows"])
def sorted_files(tmp_path_factory, request):
    """40,000 rows sorted by time and by label, in two files, as our Transform writes them, or TFX's."""
    directory = tmp_path_factory.mktemp("sorted") / "Split-train"
    directory.mkdir()
    files = [directory / f"{i}.gz" for i in range(2)]
    for index, file in enumerate(files):
        row = np.arange(index * 20_000, (index + 1) * 20_000)
        columns = {"day": row // 400, "row": row, "click": row >= 30_000}
        if request.param == "rows":
            write_rows(file, columns)
        else:
            write_blocks(file, columns, 3000)
    return [str(file) for file in files]


@pytest.fixture
def streamed(monkeypatch):
    """A split that does not fit into memory, in eight piles or so."""
    monkeypatch.setattr(transformed_data, "MAX_BYTES_IN_MEMORY", 2**16)
    monkeypatch.setattr(transformed_data, "BYTES_PER_PILE", 2**15)
    monkeypatch.setattr(row_files, "ROWS_PER_DEAL", 10_000)


def read_sorted(files, seed=3):
    return read_split(files, SORTED_FIELDS, "click", 500, shuffle_seed=seed)


def test_sorted_rows_become_batches_that_are_samples_of_all_rows(sorted_files, streamed):
    days, shares = zip(
        *((ids["day"].mean(), labels.mean()) for ids, labels in read_sorted(sorted_files).as_numpy_iterator()),
        strict=True,
    )

    assert len(days) == 80
    # A random sample of 500 rows: a quarter clicks, standard deviation 0.019; days 49.5, standard deviation 1.29.
    assert np.std(shares) == pytest.approx(0.0194, rel=0.35)
    assert np.std(days) == pytest.approx(1.29, rel=0.35)
    assert abs(np.corrcoef(days, range(80))[0, 1]) < 0.4


def test_a_streamed_pass_holds_every_row_once_and_each_pass_another_order(sorted_files, streamed):
    rows_of_both = [ids["row"] for ids, _ in read_sorted(sorted_files).repeat(2).as_numpy_iterator()]
    passes = np.concatenate(rows_of_both[:80]), np.concatenate(rows_of_both[80:])

    for rows in passes:
        assert sorted(rows.tolist()) == list(range(40_000))
    assert not np.array_equal(*passes)


@pytest.mark.parametrize("where", ["streamed", "in memory"])
def test_a_restarted_search_gets_the_batches_that_it_would_have_got(sorted_files, where, request):
    if where == "streamed":
        request.getfixturevalue("streamed")

    def first_rows(batches, num_batches):
        return [ids["row"][:3].tolist() for ids, _ in batches.take(num_batches).as_numpy_iterator()]

    whole = first_rows(read_sorted(sorted_files).repeat(), 170)

    assert first_rows(read_sorted(sorted_files).repeat().skip(95), 75) == whole[95:]
    # As the search does it when it was killed in its race: what was read is read again, and the next pass follows.
    again = read_sorted(sorted_files)
    assert first_rows(again, 80) == whole[:80]
    assert first_rows(again, 80) == whole[80:160]


def test_a_streamed_split_in_order_is_that_of_the_files(sorted_files, streamed):
    batches = list(read_split(sorted_files, SORTED_FIELDS, "click", 7000).as_numpy_iterator())

    assert np.concatenate([ids["row"] for ids, _ in batches]).tolist() == list(range(40_000))
    assert [len(labels) for _, labels in batches] == [7000] * 5 + [5000]


def test_the_files_of_a_streamed_split_are_removed_with_it(sorted_files, streamed, tmp_path, monkeypatch):
    monkeypatch.setattr(row_files.tempfile, "tempdir", str(tmp_path))

    batches = read_sorted(sorted_files).repeat().skip(3)

    assert len(list(tmp_path.rglob("*"))) > 3
    gc.collect()
    assert len(list(batches.take(2).as_numpy_iterator())) == 2  # what is derived of the batches keeps the files
    del batches
    gc.collect()
    assert list(tmp_path.iterdir()) == []


def test_a_full_temporary_directory_is_named_with_the_cure(sorted_files, streamed, tmp_path, monkeypatch):
    monkeypatch.setattr(row_files.tempfile, "tempdir", str(tmp_path))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (512, limits[1]))
    try:
        with pytest.raises(OSError, match=rf"File too large while .* put into {tmp_path}.*TMPDIR"):
            read_sorted(sorted_files)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    gc.collect()
    assert list(tmp_path.iterdir()) == []


def test_a_broken_shard_is_named_with_the_cure(sorted_files, tmp_path):
    broken = tmp_path / "part.gz"
    content = Path(sorted_files[1]).read_bytes()
    broken.write_bytes(content[: len(content) // 2])

    with pytest.raises(ValueError, match=r"part\.gz: not what Transform writes.*run Transform again"):
        read_sorted([sorted_files[0], str(broken)])


def test_a_shard_without_a_field_names_both(sorted_files):
    fields = [*SORTED_FIELDS, Field(name="city", vocabulary_size=3)]

    with pytest.raises(ValueError, match=r"Split-train: not what Transform writes.*city"):
        read_split(sorted_files, fields, "click", 500, shuffle_seed=0)


def test_piles_are_as_many_as_the_ids_need_however_well_the_records_compress(tmp_path, streamed, monkeypatch):
    file = tmp_path / "part.gz"
    columns = {"day": np.zeros(100_000, int), "row": np.zeros(100_000, int), "click": np.zeros(100_000, int)}
    write_blocks(file, columns, 4000)
    monkeypatch.setattr(row_files.tempfile, "tempdir", str(tmp_path))

    batches = read_sorted([str(file)])

    assert file.stat().st_size < 2**15  # a pile, if its length were the measure
    sizes = [pile.stat().st_size for pile in tmp_path.glob("transformed-rows-*/*")]
    assert sum(sizes) == 12 * 100_000
    assert max(sizes) < 2**15 * 1.1
    assert int(batches.cardinality()) == 200


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([], "column 'row' is broken"),
        ([b"u3", b"123"], "column 'row' is broken"),
        ([b"u4", b"123"], "column 'row' is broken"),
        ([b"u1", b"1234"], "column 'row' is broken"),
    ],
    ids=["no values", "no such type", "part of a number", "of another length"],
)
def test_a_broken_block_names_the_column_and_the_cure(tmp_path, values, message):
    file = tmp_path / "part.gz"
    write_blocks(file, {"day": np.zeros(3, int), "row": np.zeros(3, int), "click": np.zeros(3, int)}, 3)
    block = tf.train.Example.FromString(next(tf.data.TFRecordDataset(str(file), "GZIP").as_numpy_iterator()))
    block.features.feature["row"].bytes_list.value[:] = values
    with tf.io.TFRecordWriter(str(file), "GZIP") as writer:
        writer.write(block.SerializeToString())

    with pytest.raises(ValueError, match=rf"not what Transform writes.*{message}.*run Transform again"):
        read_sorted([str(file)])


@pytest.mark.parametrize("largest", [255, 256, 65_535, 65_536, 2**31 - 1])
def test_ids_of_any_size_come_back_from_a_block(largest):
    ids = np.array([0, 1, largest])

    rows = decode_block(encode_block({"a": ids, "b": ids[:3] % 2}), ["b", "a"])

    assert rows.tolist() == [[0, 0], [1, 1], [largest % 2, largest]]
    assert rows.dtype == np.int32
