"""What the readers write for TFX."""

import csv
import gzip
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import tensorflow as tf

from pipeline.config import PipelineConfig, load_config
from pipeline.datasets import prepare
from pipeline.errors import UserError
from tests.pipeline.dataset_sources import ROWS, make_config


def _read(prepared) -> list[dict[str, str]]:
    assert os.listdir(prepared.directory) == ["data.csv"]
    with open(os.path.join(prepared.directory, "data.csv"), newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _read_examples(prepared) -> list[dict[str, list]]:
    rows = []
    for path in sorted(Path(prepared.directory).glob(prepared.pattern)):
        for record in tf.data.TFRecordDataset(str(path), compression_type="GZIP").as_numpy_iterator():
            features = tf.train.Example.FromString(record).features.feature
            rows.append({name: list(getattr(f, f.WhichOneof("kind")).value) for name, f in features.items()})
    return rows


def test_a_csv_keeps_the_configured_columns_normalised(write, root):
    prepared = prepare(make_config(write(ROWS)), str(root))
    assert (prepared.format, prepared.label, prepared.num_rows) == ("csv", "label", 4)
    assert Path(prepared.directory).parent == root / "data"
    assert _read(prepared) == [
        {"city": "Rome", "age": "30", "price": "1.5", "label": "0"},
        {"city": "Oslo", "age": "41", "price": "", "label": "1"},
        {"city": "Paris, France", "age": "", "price": "2.0", "label": "1"},
        {"city": "Rome", "age": "7", "price": "0.001", "label": "0"},
    ]


@pytest.mark.parametrize("variant", ["gzip", "byte order mark", "windows line ends", "blank lines"])
def test_a_csv_may_be_written_in_many_ways(write, root, variant):
    text = ROWS.encode()
    expected = _read(prepare(make_config(write(text)), str(root / "plain")))
    name = "rows.csv.gz" if variant == "gzip" else "rows2.csv"
    text = {
        "gzip": gzip.compress(text),
        "byte order mark": b"\xef\xbb\xbf" + text,
        "windows line ends": text.replace(b"\n", b"\r\n"),
        "blank lines": text.replace(b"\n", b"\n  \n") + b"\n\n",
    }[variant]
    assert _read(prepare(make_config(write(text, name)), str(root))) == expected


def test_a_line_break_within_a_cell_breaks_no_row_and_no_line_number(write, root):
    path = write(ROWS.replace("Paris, France", "Paris\nFrance"))
    assert _read(prepare(make_config(path), str(root)))[2]["city"] == "Paris France"
    path = write(ROWS.replace("Paris, France", "Paris\nFrance").replace("Rome,7", "Rome,seven"))
    with pytest.raises(UserError, match="line 6, column 'age': 'seven' is not a whole number"):
        prepare(make_config(path), str(root))


def test_nan_is_a_missing_number(write, root):
    assert _read(prepare(make_config(write(ROWS.replace("1e-3", "NaN"))), str(root)))[3]["price"] == ""


def test_a_named_label_value_counts_as_one(write, root):
    path = write("city,class\nRome,good\nOslo,bad\nBonn,unknown\n")
    prepared = prepare(make_config(path, label="class", positive_value="good", categorical=["city"]), str(root))
    assert [row["class"] for row in _read(prepared)] == ["1", "0", "0"]


def test_an_unchanged_source_is_not_prepared_again(write, root):
    path = write(ROWS)
    first = prepare(make_config(path), str(root))
    file = Path(first.directory, "data.csv")
    before = file.stat()
    frequent = PipelineConfig.from_dict(make_config(path).to_dict() | {"seed": 3})
    assert prepare(frequent, str(root)) == first
    assert (file.stat().st_mtime_ns, file.stat().st_ino) == (before.st_mtime_ns, before.st_ino)


def test_a_changed_source_or_column_is_prepared_anew(write, root):
    path = write(ROWS)
    first = prepare(make_config(path), str(root))
    other_columns = prepare(make_config(path, categorical=["city"]), str(root))
    os.utime(path, ns=(0, 0))
    touched = prepare(make_config(path), str(root))
    assert len({first.directory, other_columns.directory, touched.directory}) == 3


def test_what_a_killed_run_left_is_cleared_away(write, root):
    path = write(ROWS)
    finished = prepare(make_config(path), str(root))
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    name = Path(finished.directory).name
    abandoned = root / "data" / f".{name}.{process.pid}"
    abandoned.mkdir()
    Path(f"{abandoned}.json").touch()
    shutil.rmtree(finished.directory)
    assert prepare(make_config(path), str(root)) == finished
    assert sorted(os.listdir(root / "data")) == [name, f"{name}.json"]


def test_the_shipped_adult_sample_is_read_whole(root):
    rows = _read(prepare(load_config("adult"), str(root)))
    assert len(rows) == 48_842
    assert sum(row["income"] == "1" for row in rows) == 11_687
    assert sum(row["workclass"] == "" for row in rows) == 2_799
    assert not any("?" in row.values() for row in rows)


def test_adult_is_read_in_its_original_form_from_a_directory(tmp_path, root):
    row = "{}, Private, 1{}, HS-grad, 9, Divorced, Sales, Wife, Black, Female, 0, 0, 40, ?, {}\n"
    (tmp_path / "adult.data").write_text(row.format(39, 0, "<=50K") + row.format(40, 1, ">50K") + "\n")
    (tmp_path / "adult.test").write_text("|1x3 Cross validator\n" + row.format(41, 2, ">50K."))
    features = {"integer": ["age", "fnlwgt"]}
    config = make_config(tmp_path, "adult", "income", ">50K", **features)
    rows = _read(prepare(config, str(root)))
    assert [(row["age"], row["income"]) for row in rows] == [("39", "0"), ("40", "1"), ("41", "1")]


def test_taxi_computes_its_label_and_hides_the_tips(write, root):
    path = write("fare,tips,company\n10,2.1,A\n10,2,\n,5,B\n8,,B\n")
    config = make_config(path, "taxi", "is_big_tip", categorical=["company"], numeric=["fare"])
    assert [row["is_big_tip"] for row in _read(prepare(config, str(root)))] == ["1", "0", "0", "0"]
    leaking = make_config(path, "taxi", "is_big_tip", numeric=["fare", "tips"])
    with pytest.raises(UserError, match=r"column 'tips' \(features\.numeric\) is missing"):
        prepare(leaking, str(root))


def test_criteo_becomes_examples_without_missing_values(write, root):
    path = write(
        "".join(f"{i % 2}\t{'' if i == 1 else i - 2}{12 * chr(9)}\tab{i}{25 * chr(9)}\n" for i in range(5)), "train.txt"
    )
    prepared = prepare(make_config(path, "criteo", categorical=["C1"], integer=["I1"]), str(root))
    assert (prepared.format, prepared.num_rows, prepared.pattern) == ("tfrecord", 5, "*")
    assert os.listdir(prepared.directory) == ["data-00000.gz"]
    rows = sorted(_read_examples(prepared), key=lambda row: row["C1"])
    assert rows[0] == {"C1": [b"ab0"], "I1": [-2], "label": [0]}
    assert rows[1] == {"C1": [b"ab1"], "label": [1]}
    assert len(rows) == 5


def test_avazu_drops_the_id_and_derives_the_hour_of_the_day(write, root):
    path = write("id,click,hour,C1\n1,0,14102100,1005\n2,1,14102123,1002\n")
    prepared = prepare(make_config(path, "avazu", "click", categorical=["hour", "hour_of_day", "C1"]), str(root))
    assert {"hour": [b"14102123"], "hour_of_day": [b"23"], "C1": [b"1002"], "click": [1]} in _read_examples(prepared)
    with pytest.raises(UserError, match=r"column 'id' \(features\.categorical\) is missing"):
        prepare(make_config(path, "avazu", "click", categorical=["id"]), str(root))


def test_the_note_beside_the_data_says_where_it_is_from(write, root):
    path = write(ROWS)
    prepared = prepare(make_config(path), str(root))
    note = json.loads(Path(f"{prepared.directory}.json").read_text())
    assert note == {"num_rows": 4, "num_skipped_rows": 0, "schema_version": 2, "skipped": [], "sources": [path]}
