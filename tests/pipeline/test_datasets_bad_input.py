"""How each kind of bad input is reported, and that nothing is left behind."""

import gzip
import os

import pytest

from pipeline.datasets import columns, preparation, prepare, writers
from pipeline.errors import UserError
from tests.pipeline.dataset_sources import ROWS, make_config

BAD_CSV = {
    "empty file": ("", "is empty"),
    "only a header": ("city,age,price,label\n", "no rows"),
    "no label column": (ROWS.replace("label", "lable"), r"'label' \(data\.label\) is missing\. Did you mean 'lable'"),
    "no feature column": (
        ROWS.replace("city", "town"),
        r"'city' \(features\.categorical\) is missing.*Columns in the data: town",
    ),
    "semicolons": (ROWS.replace(",", ";"), "separated by another sign"),
    "column twice": (ROWS.replace("other", "city"), "line 1: column 'city' occurs twice"),
    "label of three values": (
        ROWS.replace("x,0", "x,2"),
        r"column 'label': the label is not binary .* '2', '1', '0'.*positive_value",
    ),
    "label of text": (
        ROWS.replace(",0\n", ",no\n").replace(",1\n", ",yes\n"),
        """values are 'no', 'yes'.*--set data.positive_value='"no"'""",
    ),
    "label missing": (ROWS.replace("y,1", "y,"), "line 3, column 'label': the label is missing"),
    "one class": (ROWS.replace(",0\n", ",1\n"), "rows of both classes are needed, but all have the label '1'"),
    "column all missing": (
        ROWS.replace(" 30", "").replace("41.0", "").replace("7", ""),
        "column 'age': all values are missing",
    ),
    "column constant": (
        "city,age,price,label\nRome,1,1,0\nRome,2,2,1\n",
        r"column 'city': 'Rome' in all rows; a field needs at least two values\. Remove it from features\.categorical",
    ),
    "cells too few": (ROWS + "Rome,1,0\n", "line 6: 3 cells, but 5 are expected"),
    "cells too many": (ROWS.replace('"Paris, France"', "Paris, France"), "line 4: 6 cells, but 5 are expected"),
    "text in integers": (ROWS.replace("Rome,7", "Rome,seven"), "line 5, column 'age': 'seven' is not a whole number"),
    "fraction in integers": (ROWS.replace("Rome,7", "Rome,7.5"), r"'7\.5' is not a whole number.*or features\.numeric"),
    "text in numbers": (ROWS.replace("1.5", "1_000"), "line 2, column 'price': '1_000' is not a number"),
    "huge integer": (ROWS.replace("Rome,7", "Rome,99999999999999999999"), "'99999999999999999999' is too large"),
    "infinite number": (ROWS.replace("1.5", "inf"), "'inf' is too large"),
    "latin-1": (ROWS.replace("Oslo", "Malmö").encode("latin-1"), r"line 3: not UTF-8 text \(byte b'\\xf6' .*iconv"),
    "huge cell": (ROWS + '"' + "x" * 200_000, "line 6: not a valid record.*quote"),
}


@pytest.mark.parametrize("case", BAD_CSV)
def test_bad_input_is_reported_with_its_place_and_leaves_nothing_behind(write, root, case):
    text, message = BAD_CSV[case]
    path = write(text)
    with pytest.raises(UserError, match=message) as error:
        prepare(make_config(path), str(root))
    assert path in str(error.value)
    assert not root.parent.exists()


def test_bad_input_leaves_an_existing_root_as_it_was(write, root):
    root.mkdir(parents=True)
    (root / "mine").touch()
    with pytest.raises(UserError):
        prepare(make_config(write("")), str(root))
    assert os.listdir(root) == ["mine"]


def test_five_of_many_label_values_are_shown_without_reading_on(write, root, monkeypatch):
    monkeypatch.setattr(columns, "NUM_ROWS_AFTER_BAD_LABEL", 10)
    many = write("city,label\n" + "".join(f"c{i},{i}\n" for i in range(100)) + "broken\n")
    with pytest.raises(UserError, match=r"values are '0', '1', '2', '3', '4', \.\.\."):
        prepare(make_config(many, categorical=["city"]), str(root))
    few = write("city,label\n" + "".join(f"c{i},{'ab'[i % 2]}\n" for i in range(100)) + "broken\n")
    with pytest.raises(UserError, match=r"values are 'a', 'b'\. "):
        prepare(make_config(few, categorical=["city"]), str(root))


def test_a_positive_value_that_does_not_occur_is_answered_with_those_that_do(write, root):
    path = write(ROWS.replace(",0\n", ",no\n").replace(",1\n", ",yes\n"))
    with pytest.raises(UserError, match=r"data\.positive_value is 'yess'.*'no', 'yes'\. Did you mean 'yes'"):
        prepare(make_config(path, positive_value="yess"), str(root))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("rows.cvs", r"no such file in .* Did you mean 'rows\.csv'"),
        ("nowhere/rows.csv", "nor the directory"),
        (".", "is a directory; a file is needed"),
        ("s3://bucket/rows.csv", r"cannot be read \(UnimplementedError.*or copy the file to this machine"),
    ],
)
def test_a_missing_file_is_answered_with_near_names(write, tmp_path, root, name, message):
    write(ROWS)
    path = name if "://" in name else tmp_path / name
    with pytest.raises(UserError, match=message):
        prepare(make_config(path), str(root))
    assert not root.parent.exists()


def test_a_broken_gzip_file_is_reported(write, root):
    compressed = gzip.compress((ROWS + "Rome,1,1,,0\n" * 10_000).encode())
    for broken in (compressed[: len(compressed) // 2], b"no gzip"):
        with pytest.raises(UserError, match=r"broken after line \d+: not a whole gzip file"):
            prepare(make_config(write(broken, "rows.csv.gz")), str(root))


def test_readers_of_a_fixed_format_say_what_they_expect(write, root):
    with pytest.raises(UserError, match="column 'tips' is missing, from which is_big_tip is computed"):
        prepare(make_config(write("fare,label\n1,0\n"), "taxi", "is_big_tip", numeric=["fare"]), str(root))
    with pytest.raises(UserError, match="line 2: fare 'ten' and tips '1' must be numbers"):
        prepare(make_config(write("fare,tips\nten,1\n"), "taxi", "is_big_tip", numeric=["fare"]), str(root))
    with pytest.raises(UserError, match="line 1: 39 cells, but 40 are expected"):
        prepare(make_config(write("\t" * 38 + "x\n"), "criteo", categorical=["C1"]), str(root))
    with pytest.raises(UserError, match=r"line 2, column 'hour': '2014-10-21' does not have the form YYMMDDHH"):
        prepare(
            make_config(write("id,click,hour\n1,0,2014-10-21\n"), "avazu", "click", categorical=["hour"]), str(root)
        )
    with pytest.raises(UserError, match=r"column 'hour' is missing; Avazu's train.csv is expected"):
        prepare(make_config(write("id,click\n1,0\n"), "avazu", "click", categorical=["hour"]), str(root))


def test_a_root_below_a_file_is_refused(write, tmp_path):
    path = write(ROWS)
    (tmp_path / "file").touch()
    for root in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(UserError, match=r"cannot be written to \(.*--root DIR"):
            prepare(make_config(path), str(root))
    with pytest.raises(UserError, match="must be a local directory"):
        prepare(make_config(path), "gs://bucket/root")


def test_a_full_disk_is_a_user_error_and_leaves_nothing_behind(write, root, monkeypatch):
    def fail(self, values):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(writers.CsvWriter, "write", fail)
    with pytest.raises(UserError, match=r"No space left on device.*--root DIR"):
        prepare(make_config(write(ROWS)), str(root))
    assert not root.parent.exists()


def test_ctrl_c_leaves_nothing_behind(write, root, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(preparation, "_copy_rows", interrupt)
    with pytest.raises(KeyboardInterrupt):
        prepare(make_config(write(ROWS)), str(root))
    assert not root.parent.exists()
