"""The user's own TFRecords are checked and read where they are."""

import os

import pytest
import tensorflow as tf

from pipeline.datasets import prepare
from pipeline.errors import UserError
from tests.pipeline.dataset_sources import ROWS, make_config


@pytest.fixture
def write_records(tmp_path):
    def write(name: str, rows: list[dict]) -> None:
        path = tmp_path / name
        options = tf.io.TFRecordOptions("GZIP" if name.endswith(".gz") else "")
        with tf.io.TFRecordWriter(str(path), options) as writer:
            for row in rows:
                example = tf.train.Example()
                for key, value in row.items():
                    kind = {bytes: "bytes_list", int: "int64_list", float: "float_list"}[type(value)]
                    getattr(example.features.feature[key], kind).value.append(value)
                writer.write(example.SerializeToString())

    return write


RECORDS = [{"city": b"Rome", "label": 1}, {"city": b"Oslo", "age": 3, "price": 0.5, "label": 0}]


@pytest.mark.parametrize("name", ["a.gz", "a.tfrecord"])
def test_own_records_are_read_where_they_are(write_records, tmp_path, root, name):
    (tmp_path / "records").mkdir()
    write_records(f"records/{name}", RECORDS)
    for path, pattern in ((tmp_path / "records", "*"), (tmp_path / "records" / "a*", "a*")):
        prepared = prepare(make_config(path, "tfrecord"), str(root))
        assert (prepared.format, prepared.directory) == ("tfrecord", str(tmp_path / "records"))
        assert (prepared.pattern, prepared.num_rows) == (pattern, 2)
    assert os.listdir(root) == []


@pytest.mark.parametrize(
    ("records", "features", "message"),
    [
        ([], {"categorical": ["city"]}, "no records"),
        (
            RECORDS,
            {"categorical": ["town"]},
            r"'town' \(features\.categorical\) has no value.*Columns there: age, city",
        ),
        ([{"city": b"Rome"}], {"categorical": ["city"]}, r"'label' \(data\.label\) has no value"),
        (
            [{"city": b"Rome", "label": b"yes"}],
            {"categorical": ["city"]},
            r"record 1, column 'label'.*received \[b'yes'\]",
        ),
        (RECORDS, {"integer": ["city"]}, r"'city' \(features\.integer\) holds text"),
    ],
)
def test_own_records_without_what_is_configured_are_refused(write_records, tmp_path, root, records, features, message):
    write_records("a.gz", records)
    with pytest.raises(UserError, match=message):
        prepare(make_config(tmp_path / "*.gz", "tfrecord", **features), str(root))
    assert not root.parent.exists()


def test_files_that_are_no_records_are_refused(write, write_records, tmp_path, root):
    config = make_config(write(ROWS, "a.tfrecord"), "tfrecord")
    with pytest.raises(UserError, match="not a TFRecord file"):
        prepare(config, str(root))
    with tf.io.TFRecordWriter(str(tmp_path / "b.tfrecord")) as writer:
        writer.write(b"\xff\xff no example")
    with pytest.raises(UserError, match=r"record 1: not a tf\.Example"):
        prepare(make_config(tmp_path / "b.tfrecord", "tfrecord"), str(root))
    with pytest.raises(UserError, match=r"no file matches in .* Did you mean 'a\.tfrecord'"):
        prepare(make_config(tmp_path / "aa.tfrecord", "tfrecord"), str(root))
    with pytest.raises(UserError, match="no such directory"):
        prepare(make_config(tmp_path / "nowhere" / "*", "tfrecord"), str(root))
    with pytest.raises(UserError, match="must hold 0 and 1"):
        prepare(make_config(tmp_path / "b.tfrecord", "tfrecord", positive_value="x"), str(root))
