"""A configuration proposed for any CSV loads, and the CSV passes the reader with it."""

import random

import pytest

from pipeline.config import load_config
from pipeline.datasets import prepare
from pipeline.errors import UserError
from pipeline.init_config import propose_config, write_config

NUM_ROWS = 2000


def _write_csv(path, columns: dict[str, list]) -> str:
    lines = [",".join(columns), *(",".join(str(cell) for cell in row) for row in zip(*columns.values(), strict=True))]
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return str(path)


def _columns() -> dict[str, list]:
    generator = random.Random(0)

    def draw(values):
        return [generator.choice(values) for _ in range(NUM_ROWS)]

    return {
        "row": list(range(NUM_ROWS)),
        "session": [f"s{i:05d}" for i in range(NUM_ROWS)],
        "city": draw(["Rome", "Oslo", "", "yes"]),
        "hour": draw(range(24)),
        "shop_id": draw(range(1000, 1300)),
        "zip": draw([f"{i:05d}" for i in range(100)]),
        "visits": draw(range(2000)),
        "visits_or_none": draw(["", *(f"{i}.0" for i in range(500))]),
        "when": draw(range(1_400_000_000, 1_400_900_000)),
        "balance": draw(range(-500, 500)),
        "price": [round(generator.uniform(0, 9), 3) for _ in range(NUM_ROWS)],
        "empty": [""] * NUM_ROWS,
        "constant": ["x"] * NUM_ROWS,
        "": draw("ab"),
        "label": draw(["good", "good", "bad"]),
    }


def test_each_column_gets_the_kind_that_its_values_suggest(tmp_path):
    path = _write_csv(tmp_path / "My Shop-2.csv", _columns())
    write_config(path, "label", str(tmp_path / "my.yaml"))
    config = load_config(str(tmp_path / "my.yaml"))
    assert config.features.categorical == ("city", "hour", "shop_id", "zip")
    assert config.features.integer == ("visits", "visits_or_none")
    assert config.features.numeric == ("when", "balance", "price")
    assert config.features.min_frequency == 2
    assert config.name == "my-shop-2"
    assert config.data.positive_value == "bad"
    assert (config.search.method, config.search.parameter_budget) == ("dimgrow", None)
    assert prepare(config, str(tmp_path / "root")).num_rows == NUM_ROWS


@pytest.mark.parametrize(
    ("column", "reason"),
    [
        ("row", "consecutive numbers: an identifier"),
        ("session", "a different value in each row: an identifier"),
        ("empty", "all values are missing"),
        ("constant", "'x' in all rows"),
        ('""', "its name is empty"),
    ],
)
def test_a_column_that_cannot_help_is_left_out_and_the_file_says_why(tmp_path, column, reason):
    text = propose_config(_write_csv(tmp_path / "a.csv", _columns()), "label")
    assert f"# left out: {column}: {reason}" in text


@pytest.mark.parametrize(
    ("values", "positive"),
    [
        (["0", "1"], None),
        (["0.0", "1.0"], None),
        (["true", "false"], "true"),
        (["No", "Yes"], "Yes"),
        (["-1", "1"], "1"),
        (["2", "1"], "2"),
        (["a", "a", "b"], "b"),
    ],
)
def test_the_label_is_mapped_to_zero_and_one(tmp_path, values, positive):
    columns = {"city": ["Rome", "Oslo", "Bonn"] * 8, "label": (values * 24)[:24]}
    write_config(_write_csv(tmp_path / "a.csv", columns), "label", str(tmp_path / "a.yaml"))
    config = load_config(str(tmp_path / "a.yaml"))
    assert config.data.positive_value == positive
    assert prepare(config, str(tmp_path / "root")).num_rows == 24


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["a", "b", "c"], "received 3 values: 'a', 'b', 'c'"),
        (["a", "a", "a"], "all rows have 'a'"),
        (["a", "", "b"], "line 3, column 'label': the label is missing"),
    ],
)
def test_a_label_without_two_values_is_refused(tmp_path, labels, message):
    path = _write_csv(tmp_path / "a.csv", {"city": ["Rome", "Oslo", "Rome"], "label": labels})
    with pytest.raises(UserError, match=message):
        propose_config(path, "label")


def test_rows_of_one_class_at_the_beginning_do_not_hide_the_other(tmp_path):
    path = _write_csv(tmp_path / "a.csv", {"city": ["Rome", "Oslo"] * 50, "label": [0] * 90 + [1] * 10})
    assert "positive_value: null" in propose_config(path, "label", max_rows=20)


def test_a_missing_label_column_is_answered_with_the_nearest(tmp_path):
    path = _write_csv(tmp_path / "a.csv", {"city": ["Rome"], "label": [1]})
    with pytest.raises(UserError, match=r"'lable' is missing\. Did you mean 'label'\?.*--label"):
        propose_config(path, "lable")


def test_a_file_without_a_usable_column_is_refused(tmp_path):
    path = _write_csv(tmp_path / "a.csv", {"city": ["Rome", "Rome"], "label": [0, 1]})
    with pytest.raises(UserError, match=r"no column can be a feature.*city: 'Rome' in all rows"):
        propose_config(path, "label")


def test_an_existing_output_is_overwritten_only_by_force(tmp_path):
    path = _write_csv(tmp_path / "a.csv", {"city": ["Rome", "Oslo"] * 2, "label": [0, 1] * 2})
    output = tmp_path / "a.yaml"
    output.write_text("mine")
    with pytest.raises(UserError, match=r"exists already.*--force"):
        write_config(path, "label", str(output))
    assert output.read_text() == "mine"
    write_config(path, "label", str(output), force=True)
    assert load_config(str(output)).data.path == path


def test_an_output_that_cannot_be_written_is_a_user_error(tmp_path):
    path = _write_csv(tmp_path / "a.csv", {"city": ["Rome", "Oslo"] * 2, "label": [0, 1] * 2})
    with pytest.raises(UserError, match="cannot be written"):
        write_config(path, "label", str(tmp_path / "nowhere" / "a.yaml"))
