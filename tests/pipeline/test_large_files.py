"""Large files of one row a line: how they are parsed, shuffled and written."""

import gzip
import os
import re
import resource
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf

from pipeline.config import PipelineConfig
from pipeline.datasets import criteo, inputs, large_files, line_parser, prepare, shards
from pipeline.datasets.columns import make_columns
from pipeline.datasets.example_bytes import encode_examples
from pipeline.datasets.inputs import Block
from pipeline.datasets.line_parser import LineParser
from pipeline.errors import UserError
from tests.pipeline.dataset_sources import make_config

FEATURES = {"categorical": ["C1", "C2"], "integer": ["I1"], "numeric": ["I2"]}


def lines_of(num_rows: int) -> list[str]:
    """Rows of Criteo's form, sorted by I1: label, I1, I2 and, after the other counts, C1 and C2; some cells missing."""
    return [
        f"{i % 3 == 0:d}\t{i}\t{i / 4 if i % 5 else ''}"
        + "\t" * 11
        + f"\t{'' if i % 7 == 0 else f'é{i % 11}'}\tb{i % 3}"
        + "\t" * 24
        for i in range(num_rows)
    ]


def criteo_config(path, policy: str = "fail") -> PipelineConfig:
    config = make_config(path, "criteo", **FEATURES)
    return PipelineConfig.from_dict({**config.to_dict(), "data": {**config.data.to_dict(), "on_bad_rows": policy}})


def read_records(prepared) -> list[bytes]:
    paths = sorted(Path(prepared.directory).iterdir())
    return list(tf.data.TFRecordDataset([str(path) for path in paths], "GZIP").as_numpy_iterator())


def rows_of(records: list[bytes]) -> list[tuple]:
    spec = {
        "C1": tf.io.FixedLenFeature([], tf.string, ""),
        "C2": tf.io.FixedLenFeature([], tf.string, ""),
        "I1": tf.io.FixedLenFeature([], tf.int64, -1),
        "I2": tf.io.FixedLenFeature([], tf.float32, -1.0),
        "label": tf.io.FixedLenFeature([], tf.int64),
    }
    columns = tf.io.parse_example(records, spec)
    return list(zip(*(columns[name].numpy().tolist() for name in spec), strict=True))


def expected_rows(num_rows: int) -> list[tuple]:
    return [
        (
            "" if i % 7 == 0 else f"é{i % 11}".encode(),
            f"b{i % 3}".encode(),
            i,
            i / 4 if i % 5 else -1.0,
            int(i % 3 == 0),
        )
        for i in range(num_rows)
    ]


def by_count(rows: list[tuple]) -> list[tuple]:
    return sorted(((row[0] or b"", *row[1:]) for row in rows), key=lambda row: row[2])


@pytest.fixture
def small_parts(monkeypatch):
    """Blocks of some 20 rows, piles of some 100."""
    monkeypatch.setattr(large_files, "BLOCK_BYTES", 1000)
    monkeypatch.setattr(large_files, "BYTES_PER_PILE", 1)
    monkeypatch.setattr(shards, "PILE_BYTES", 5000)
    monkeypatch.setattr(large_files, "num_workers", lambda: 1)


def test_every_row_is_written_once_and_in_an_order_of_its_own(write, root, small_parts):
    prepared = prepare(criteo_config(write("\n".join(lines_of(1000)) + "\n", "train.txt")), str(root))

    rows = rows_of(read_records(prepared))

    assert prepared.num_rows == 1000
    assert len(os.listdir(prepared.directory)) > 5
    assert by_count(rows) == by_count(expected_rows(1000))
    order = [row[2] for row in rows]
    # The source is sorted: neighbours and position must tell nothing about it.
    assert abs(np.corrcoef(order, np.arange(1000))[0, 1]) < 0.15
    assert np.abs(np.diff(order)).mean() > 250


def test_the_shards_are_the_same_bytes_whoever_writes_them(write, root, small_parts, monkeypatch):
    path = write("\n".join(lines_of(500)), "train.txt")
    monkeypatch.setattr(shards, "PILE_BYTES", 15_000)

    def written(name: str, workers: int) -> dict[str, bytes]:
        monkeypatch.setattr(large_files, "num_workers", lambda: workers)
        directory = Path(prepare(criteo_config(path), str(root / name)).directory)
        return {file.name: file.read_bytes() for file in directory.iterdir()}

    alone = written("alone", 1)
    assert len(alone) == 2
    assert written("together", 2) == alone


@pytest.mark.parametrize("kind", ["gz", "two gz members", "zst", "remote", "remote gz", "windows line ends"])
def test_a_large_file_may_be_written_in_many_ways(write, root, small_parts, kind):
    text = ("\n".join(lines_of(100)) + "\n").encode()
    if kind.startswith("remote"):
        path = "ram://logs/train.txt" + (".gz" if "gz" in kind else "")
        with tf.io.gfile.GFile(path, "wb") as file:
            file.write(gzip.compress(text) if "gz" in kind else text)
    elif kind == "zst":
        path = write(pa.compress(text, "zstd", asbytes=True), "train.txt.zst")
    elif kind == "windows line ends":
        path = write(text.replace(b"\n", b"\r\n") + b"\r\n", "train.txt")
    else:
        middle = text.index(b"\n", 3000) + 1
        members = [text[:middle], text[middle:]] if "two" in kind else [text]
        path = write(b"".join(map(gzip.compress, members)), "train.txt.gz")

    prepared = prepare(criteo_config(path), str(root))

    assert by_count(rows_of(read_records(prepared))) == by_count(expected_rows(100))


def test_several_files_are_read_as_one(write, root, small_parts):
    lines = lines_of(90)
    write("\n".join(lines[:40]), "day_0.txt")
    path = write("\n".join(lines[40:]), "day_1.txt")

    prepared = prepare(criteo_config(path.replace("day_1", "day_*")), str(root))

    assert by_count(rows_of(read_records(prepared))) == by_count(expected_rows(90))


MESSY = [
    "1\t 7 \t0.5", "0\t+8\t1", "1\t9.0\tNaN", "0\tnan\t-2", "1.0\t \t 3e2 ", "0\t-4\t", "", "   ",
]  # fmt: skip


def test_the_fast_way_and_the_slow_one_read_the_same(monkeypatch):
    config = make_config("x", "criteo", **FEATURES)
    parser = LineParser(criteo.FORMAT, criteo.COLUMNS, make_columns(config), "fail")
    messy = [line + "\t" * 11 + "\t é\u00a0\tx y" + "\t" * 24 if line.strip() else line for line in MESSY]
    block = Block("x", 1, "\n".join(lines_of(600) + messy + lines_of(300)).encode())
    fast = parser.parse(block)

    def refuse(*_):
        raise line_parser._UncleanError

    monkeypatch.setattr(LineParser, "_parse_fast", refuse)
    slow = parser.parse(block)

    assert fast.table.num_rows == 906
    assert fast.table.combine_chunks().equals(slow.table.combine_chunks())
    assert fast.labels == slow.labels == ["1", "0", "1.0"]


BAD_LINES = {
    "cells too few": ("1\t2\t3", "line 501: 3 cells, but 40 are expected"),
    "no label": (lines_of(3)[2].replace("0\t", "\t", 1), "line 501, column 'label': the label is missing"),
    "another label": ("7" + lines_of(1)[0][1:], r"line 501, column 'label': '7' is neither 0 nor 1"),
    "text in integers": (
        lines_of(1)[0].replace("1\t0", "1\tzero"),
        "line 501, column 'I1': 'zero' is not a whole number",
    ),
    "hexadecimal": (lines_of(1)[0].replace("1\t0", "1\t0x1F"), "line 501, column 'I1': '0x1F' is not a whole number"),
    "infinite": (lines_of(5)[4].replace("1.0", "inf"), "line 501, column 'I2': 'inf' is too large"),
    "latin-1": (lines_of(3)[2].encode("latin-1"), r"line 501: not UTF-8 text \(byte b'\\xe9'.*iconv"),
}


@pytest.mark.parametrize("case", BAD_LINES)
def test_a_bad_row_is_named_or_skipped_and_counted(write, root, case):
    line, message = BAD_LINES[case]
    bad = line if isinstance(line, bytes) else line.encode()
    lines = [text.encode() for text in lines_of(1000)]
    path = write(b"\n".join([*lines[:500], bad, *lines[500:], bad]), "train.txt")
    if case != "another label":  # all values that were seen are told of a label that is none
        with pytest.raises(UserError, match=rf"{message}.*on_bad_rows=skip"):
            prepare(criteo_config(path), str(root))
        assert not root.parent.exists()

    prepared = prepare(criteo_config(path, "skip"), str(root))

    assert (prepared.num_rows, prepared.num_skipped_rows, len(prepared.skipped)) == (1000, 2, 2)
    assert re.search(message.split(".*")[0], prepared.skipped[0])
    assert "line 1002" in prepared.skipped[1]
    assert by_count(rows_of(read_records(prepared))) == by_count(expected_rows(1000))
    assert prepare(criteo_config(path, "skip"), str(root)) == prepared  # as the note beside the data tells


def test_a_file_whose_rows_are_mostly_bad_is_refused_though_bad_rows_are_skipped(write, root):
    path = write("\n".join(lines_of(10) + ["1\t2"] * 11), "train.txt")

    with pytest.raises(UserError, match="11 rows are bad and 10 are good: is it the right reader"):
        prepare(criteo_config(path, "skip"), str(root))
    assert not root.parent.exists()


@pytest.mark.parametrize("name", ["train.txt.gz", "train.txt.zst"])
def test_a_truncated_file_is_an_error_whatever_the_policy(write, root, small_parts, name):
    text = "\n".join(lines_of(5000)).encode()
    compressed = gzip.compress(text) if name.endswith("gz") else pa.compress(text, "zstd", asbytes=True)
    path = write(compressed[: len(compressed) // 2], name)

    with pytest.raises(UserError, match=rf"{name}: broken after line \d+.*Copy or download it again"):
        prepare(criteo_config(path, "skip"), str(root))
    assert not root.parent.exists()


def test_a_column_that_a_later_file_lacks_is_named_with_both_files(write, root):
    write("id,click,hour,C1\n1,0,14102100,a\n", "a.csv")
    path = write("id,click,hour,C2\n1,1,14102100,b\n", "b.csv")

    with pytest.raises(UserError, match=r"b\.csv: column 'C1' .* is missing.*a\.csv has it"):
        prepare(make_config(path.replace("b.csv", "?.csv"), "avazu", "click", categorical=["hour", "C1"]), str(root))


def test_columns_may_change_places_between_files(write, root):
    write("id,click,hour,C1\n1,0,14102100,a\n", "a.csv")
    path = write("C1,id,click,hour\nb,1,1,14102101\n", "b.csv")

    prepared = prepare(
        make_config(path.replace("b.csv", "?.csv"), "avazu", "click", categorical=["hour", "C1"]), str(root)
    )

    categories = [
        tf.train.Example.FromString(r).features.feature["C1"].bytes_list.value[0] for r in read_records(prepared)
    ]
    assert sorted(categories) == [b"a", b"b"]


def test_a_full_disk_is_named_and_leaves_nothing_behind(write, root, small_parts):
    path = write("\n".join(lines_of(1000)), "train.txt")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))  # writing fails in the middle, as on a full disk
    try:
        with pytest.raises(UserError, match=r"cannot be written to \(File too large\)"):
            prepare(criteo_config(path), str(root))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not root.parent.exists()


def test_a_bucket_that_refuses_is_named_with_the_cure(root, monkeypatch):
    def refuse(_):
        raise tf.errors.PermissionDeniedError(None, None, "403: no storage.objects.list access")

    monkeypatch.setattr(tf.io.gfile, "glob", refuse)
    with pytest.raises(UserError, match=r"gs://b/train\.txt: cannot be read \(PermissionDeniedError.*403.*credentials"):
        prepare(criteo_config("gs://b/train.txt"), str(root))


def test_a_file_without_line_ends_is_refused(write, monkeypatch):
    path = write("x" * 500, "train.txt")

    with pytest.raises(UserError, match="line 1: no end of the line within 100 bytes"):
        list(inputs.read_blocks(path, 100))


def test_blocks_are_whole_lines_whose_numbers_are_known(write):
    lines = [f"{i}" * (i % 9 + 1) + "\n" for i in range(100)]

    blocks = list(inputs.read_blocks(write("".join(lines).rstrip("\n"), "rows.txt"), 50, first_line=4))

    assert b"".join(block.data for block in blocks).decode() + "\n" == "".join(lines[3:])
    for block in blocks:
        assert block.data.decode().startswith(lines[block.first_line - 1].rstrip("\n"))


def test_examples_are_what_tensorflow_reads():
    values = {
        "text": ["é", None, "x" * 300],
        "n" * 200: [-1, 2**63 - 1, None],
        "number": [0.5, None, -3e38],
        "label": [0, 1, 128],
    }
    kinds = [pa.string(), pa.int64(), pa.float64(), pa.int64()]
    table = pa.table([pa.array(v, kind) for v, kind in zip(values.values(), kinds, strict=True)], list(values))

    examples = [tf.train.Example.FromString(record).features.feature for record in encode_examples(table)]

    for index, features in enumerate(examples):
        assert set(features) == {name for name, column in values.items() if column[index] is not None}
        for name, feature in features.items():
            (value,) = getattr(feature, feature.WhichOneof("kind")).value
            expected = values[name][index]
            if isinstance(expected, str):
                assert value == expected.encode()
            else:
                assert value == pytest.approx(expected)
                assert isinstance(value, type(expected))
