"""read_reference_rows: raw rows of the prepared data, as the schema types them."""

import gzip

import pytest
import tensorflow as tf

from pipeline.reference_rows import read_reference_rows

SPEC = {
    "city": tf.io.VarLenFeature(tf.string),
    "clicks": tf.io.VarLenFeature(tf.int64),
    "price": tf.io.VarLenFeature(tf.float32),
}
TEXT = 'city,clicks,price,bought\n"Zürich, CH",3,1.5,1\n,,,0\nBern,x,2,1\n'
EXPECTED = [
    {"city": ["Zürich, CH".encode()], "clicks": [3], "price": [1.5]},
    {},
    {"city": [b"Bern"], "price": [2.0]},
]


def parse(rows: list[bytes]) -> list[dict]:
    features = [tf.train.Example.FromString(row).features.feature for row in rows]
    return [
        {name: list(getattr(x, x.WhichOneof("kind")).value) for name, x in row.items() if x.WhichOneof("kind")}
        for row in features
    ]


@pytest.mark.parametrize("name", ["rows.csv", "rows.csv.gz"])
def test_csv_rows_get_the_types_of_the_schema_and_lose_the_label(tmp_path, name):
    data = TEXT.encode()
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith("gz") else data)
    assert parse(read_reference_rows(str(tmp_path), "csv", "rows*", SPEC, 10)) == EXPECTED


@pytest.mark.parametrize("compression", ["", "GZIP"])
def test_records_lose_what_is_no_column(tmp_path, compression):
    example = tf.train.Example()
    example.features.feature["city"].bytes_list.value.append(b"Bern")
    example.features.feature["clicks"].int64_list.value.append(3)
    example.features.feature["bought"].int64_list.value.append(1)
    example.features.feature["price"].CopyFrom(tf.train.Feature())
    with tf.io.TFRecordWriter(str(tmp_path / f"rows{'.gz' if compression else ''}"), compression) as writer:
        writer.write(example.SerializeToString())
    rows = read_reference_rows(str(tmp_path), "tfrecord", "rows*", SPEC, 10)
    assert parse(rows) == [{"city": [b"Bern"], "clicks": [3]}]


def test_so_many_rows_are_taken_from_files_in_order(tmp_path):
    for name, city in (("b.csv", "second"), ("a.csv", "first")):
        (tmp_path / name).write_text("city,bought\n" + f"{city},1\n" * 3)
    rows = parse(read_reference_rows(str(tmp_path), "csv", "*", SPEC, 4))
    assert [row["city"][0] for row in rows] == [b"first"] * 3 + [b"second"]


def test_no_file_gives_no_rows(tmp_path):
    assert read_reference_rows(str(tmp_path / "nowhere"), "csv", "*", SPEC, 4) == []
