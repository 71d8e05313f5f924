"""The whole comparison, on data so small that it takes seconds."""

import csv
import json
import re
from html.parser import HTMLParser

import pytest

from benchmarks.quality import cases, runner
from benchmarks.quality.__main__ import main

METHOD = "dimgrow_paper:max_steps=20;check_every=10;checkpoint_every=10"
VOID = {"meta", "br", "hr", "img", "input", "link"}


class _Tags(HTMLParser):
    """Fails where a tag is closed that is not open, or the other way round."""

    def __init__(self):
        super().__init__()
        self.open = []
        self.attributes = []

    def handle_starttag(self, tag, attrs):
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture
def arguments(arrays, write_npz, tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "CURVE_DIMENSIONS", (1, 16))
    options = {"data": write_npz(arrays), "methods": METHOD, "subject": METHOD, "output": str(tmp_path / "out")}
    options |= {"budgets": "0.5", "seeds": "1", "retrain-seeds": "1", "batch-size": "64", "max-epochs": "1"}
    return [text for key, value in options.items() for text in (f"--{key}", value)]


def test_a_comparison_writes_everything_and_a_second_run_measures_nothing(arguments, tmp_path, monkeypatch, capsys):
    status = main(arguments)

    output = capsys.readouterr().out
    assert status in (0, 1)
    assert re.search(r"musts: \d+ of \d+ hold", output.splitlines()[-1])
    written = json.loads((tmp_path / "out" / "results.json").read_text())
    assert {row["method"] for row in written["rows"]} >= {METHOD, "uniform", "uniform 1", "uniform 16"}
    assert written["machine"]["tensorflow"]
    with open(tmp_path / "out" / "results.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["method"] for row in rows] == [row["method"] for row in written["rows"]]
    assert all(
        0 < float(row["share"]) <= 1 and set(json.loads(row["plan"])) == {"user", "hour", "noise"} for row in rows
    )

    def fail(*arguments, **keywords):
        raise AssertionError("this case was finished")

    page = (tmp_path / "out" / "index.html").read_bytes()
    monkeypatch.setattr(cases.kd, "search", fail)
    monkeypatch.setattr(cases.Laboratory, "_train", fail)
    assert main(arguments) == status
    assert (tmp_path / "out" / "index.html").read_bytes() == page

    tags = _Tags()
    tags.feed(page.decode())
    assert tags.open == []
    assert not [value for key, value in tags.attributes if key in ("src", "href") and not value.startswith("#")]
    assert page.decode().count("<svg") >= 4


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--methods", "nothing", "unknown method 'nothing'"),
        ("--budgets", "20", "received '20'"),
        ("--data", "missing.npz", "missing.npz: no such file"),
        ("--max-epochs", "0", "must be at least 1"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_runs(arguments, tmp_path, capsys, option, value, message):
    try:
        status = main([*arguments, option, value])
    except SystemExit as stop:
        status = stop.code

    captured = capsys.readouterr()
    assert status == 2
    assert message in (captured.out + captured.err).replace("\n", " ")
    assert not (tmp_path / "out" / "results.json").exists()
