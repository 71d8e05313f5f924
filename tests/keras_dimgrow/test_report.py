"""The report: true numbers, every field, nothing loaded, the same bytes for the same search."""

import importlib
import math
import re
import sys
from typing import Any

import numpy as np
import pytest

import keras_dimgrow
from keras_dimgrow.report import write_report
from keras_dimgrow.report.facts import gate_traces, headline, plan_rows, uniform_model
from keras_dimgrow.report.panels import MAX_FIELD_CELLS


def make_plan(num_fields: int, seed: int = 0) -> list[dict]:
    """Fields named as Criteo's, vocabularies over six orders of magnitude; dimensions are set by `make_search`."""
    rng = np.random.default_rng(seed)
    sizes = np.exp(rng.uniform(math.log(3), math.log(800_000), num_fields)).astype(int)
    return [{"field": f"C{i + 1}", "vocabulary_size": int(size), "dimension": 0} for i, size in enumerate(sizes)]


def make_search(num_fields: int, num_checks: int = 160, seed: int = 0) -> tuple[list[dict], list[dict]]:
    """A plan and a trajectory that look like a search: fields grow to a hidden worth, overshoot, drop, some vanish."""
    rng = np.random.default_rng(seed)
    plan = make_plan(num_fields, seed)
    worth = np.minimum(rng.geometric(0.22, num_fields) - 1, 11)
    rates = [rng.uniform(0.1, 0.3, 40) for _ in plan]
    gates: list[list[float]] = [[0.5] for _ in plan]
    waits, allocated, trajectory = [0] * num_fields, [1] * num_fields, []
    for check in range(1, num_checks + 1):
        events, before = [], [list(values) for values in gates]
        for i, field in enumerate(plan):
            for k, gate in enumerate(gates[i]):
                move = rates[i][k] * (1 if k < worth[i] else -1) + rng.normal(0, 0.15)
                gates[i][k] = 1 / (1 + math.exp(-max(-6, min(6, math.log(gate / (1 - gate)) + move))))
            before[i] = list(gates[i])
            waits[i] -= 1
            if gates[i] and min(gates[i]) < 0.01:
                gates[i].remove(min(gates[i]))
                waits[i] = 25 if gates[i] else 50
                events.append({"field": field["field"], "action": "drop"})
            elif waits[i] < 0 and (not gates[i] or min(gates[i]) > 0.6):
                events.append({"field": field["field"], "action": "grow" if gates[i] else "revive"})
                gates[i].append(0.5)
            allocated[i] = max(allocated[i], len(gates[i]))
        sizes = [field["vocabulary_size"] for field in plan]
        is_validated = check % 10 == 0
        trajectory.append(
            {
                "step": 50 * check,
                "seconds": 3.1 * check,
                "loss": 0.452 + 0.2 * math.exp(-check / 8) + rng.normal(0, 0.0015),
                "validation_loss": 0.4545 + 0.03 * math.exp(-check / 25) if is_validated else None,
                "validation_auc": 0.795 - 0.04 * math.exp(-check / 25) if is_validated else None,
                "dimensions": {f["field"]: len(g) for f, g in zip(plan, gates, strict=True)},
                "gates": {f["field"]: [round(x, 4) for x in g] for f, g in zip(plan, before, strict=True)},
                "parameters": sum(v * len(g) for v, g in zip(sizes, gates, strict=True)),
                "table_bytes": 12 * sum(v * a for v, a in zip(sizes, allocated, strict=True)),
                "resident_bytes": int(1.1e9 + 12 * sum(v * a for v, a in zip(sizes, allocated, strict=True))),
                "events": events,
            }
        )
    for field, values in zip(plan, gates, strict=True):
        field["dimension"] = sum(gate > 0.5 for gate in values)
    return plan, trajectory


SETTINGS = {"method": "dimgrow", "max_steps": 8000, "check_every": 50, "grow_threshold": 0.6, "shrink_threshold": 0.01}
VERSIONS = {"keras_dimgrow": "0.1.0", "keras": "3.12.0", "tensorflow": "2.20.0"}


def make_record(step: int, gates: list[float], **changes) -> dict:
    """One check of a search with the single field "a", of 10 values."""
    record: dict[str, Any] = {
        "step": step,
        "seconds": step / 10,
        "loss": 0.5,
        "validation_loss": None,
        "validation_auc": None,
        "dimensions": {"a": len(gates)},
        "gates": {"a": gates},
        "parameters": 10 * len(gates),
        "table_bytes": 120 * len(gates),
        "resident_bytes": 10**9,
        "events": [],
    }
    return record | changes


def render(path, plan, trajectory, **changes) -> str:
    arguments: dict[str, Any] = {"settings": SETTINGS, "versions": VERSIONS} | changes
    write_report(str(path), plan=plan, trajectory=trajectory, **arguments)
    return path.read_text()


@pytest.fixture(scope="module")
def search():
    return make_search(num_fields=14)


@pytest.fixture(scope="module")
def page(search, tmp_path_factory):
    return render(tmp_path_factory.mktemp("report") / "report.html", *search)


def test_page_loads_nothing_and_runs_no_script(page):
    for loading in ("http:", "https:", "<script", "<link", "<img", "<iframe", "@import", " src="):
        assert loading not in page
    assert set(re.findall(r"url\((.)", page)) == {"#"}
    assert set(re.findall(r'href="(.)', page)) <= {"#"}


def test_every_field_has_a_row_and_a_cell(page, search):
    for field in search[0]:
        assert page.count(f'<th scope="row">{field["field"]}</th>') == 1
        assert f'<b title="{field["field"]}">' in page


def test_page_is_accessible(page):
    assert '<html lang="en">' in page
    assert "<title>Embedding dimension search</title>" in page
    assert page.count("<svg") == page.count('<div role="img" aria-label="') == 14 + 6
    assert 'aria-label="AUC: validation, highest' in page


def test_ids_occur_once_and_references_resolve(page):
    ids = re.findall(r' id="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'(?:url\(|href=")#([^")]+)', page)) <= set(ids)


def test_figures_take_their_colours_from_the_page(page):
    assert "var(--blue)" in page
    assert not re.findall(r"#[0-9a-f]{6}", page[page.index("<body>") :])


def test_same_search_gives_the_same_bytes(page, search, tmp_path):
    assert render(tmp_path / "again.html", *search) == page
    assert [path.name for path in tmp_path.iterdir()] == ["again.html"]


def test_headline_numbers_are_those_of_the_plan():
    plan = [
        {"field": "small", "vocabulary_size": 100, "dimension": 4},
        {"field": "large", "vocabulary_size": 9_900, "dimension": 2},
        {"field": "gone", "vocabulary_size": 1_000, "dimension": 0},
    ]
    rows = plan_rows(plan)
    uniform = uniform_model(rows, 16)
    assert [row.field for row in rows] == ["large", "small", "gone"]
    assert [row.parameters for row in rows] == [19_800, 400, 0]
    assert rows[0].share == pytest.approx(19_800 / 20_200)
    assert (uniform.parameters, uniform.total_dimensions, uniform.table_bytes) == (176_000, 48, 2_112_000)
    values = {fact["label"]: fact["value"] for fact in headline(rows, uniform, [make_record(1200, [], seconds=492.1)])}
    assert values == {
        "Fields": "3",
        "Total dimensions": "6",
        "Parameters": "20.2k",
        "Ratio to uniform": "11.5 %",
        "Parameters saved": "156k",
        "Search time": "8 min 12 s",
        "Steps": "1,200",
    }


def test_a_shared_table_counts_once(tmp_path):
    plan = [
        {"field": "item", "vocabulary_size": 100, "dimension": 4, "table": "items"},
        {"field": "city", "vocabulary_size": 50, "dimension": 2, "table": None},
        {"field": "history", "vocabulary_size": 100, "dimension": 4, "table": "items"},
    ]
    record = make_record(50, [], dimensions={"item": 4, "city": 2, "history": 4}, parameters=500)
    rows = plan_rows(plan)
    uniform = uniform_model(rows, 16)

    page = render(tmp_path / "page.html", plan, [record])

    assert [(row.field, row.parameters, row.shares_with) for row in rows] == [
        ("item", 400, None),
        ("history", 0, "item"),
        ("city", 100, None),
    ]
    assert sum(row.share for row in rows) == 1
    assert (uniform.parameters, uniform.total_dimensions) == (16 * 150, 32)
    values = {fact["label"]: fact["value"] for fact in headline(rows, uniform, [record])}
    assert (values["Fields"], values["Total dimensions"], values["Parameters"]) == ("3", "6", "500")
    assert "The plan uses 6 embedding dimensions for 3 fields" in page
    assert '<td colspan="2">in the table of item</td>' in page
    assert "Total dimensions: search, 6 at the end" in page


def test_gates_are_followed_through_drops_and_regrowth():
    gates = [[0.5, 0.5], [0.005, 0.9], [0.95], [0.5, 0.97], [0.7, 0.98]]
    traces = gate_traces([make_record(10 * i, values) for i, values in enumerate(gates)], "a")
    assert sorted((trace.steps, trace.gates, trace.is_kept) for trace in traces) == [
        ([0, 10], [0.5, 0.005], False),
        ([0, 10, 20, 30, 40], [0.5, 0.9, 0.95, 0.97, 0.98], True),
        ([30, 40], [0.5, 0.7], True),
    ]


def test_field_names_settings_and_title_are_escaped(tmp_path):
    evil = '<script>alert("x")</script> $\\frac{$ 用户'
    record = make_record(50, [0.7], events=[{"field": evil, "action": "grow"}])
    record |= {"dimensions": {evil: 1}, "gates": {evil: [0.7]}}
    plan = [{"field": evil, "vocabulary_size": 10, "dimension": 1}]
    page = render(tmp_path / "page.html", plan, [record], settings={evil: evil}, versions={evil: evil}, title=evil)
    assert "<script" not in page
    assert '"x"' not in page
    assert page.count("&lt;script&gt;alert(&#34;x&#34;)&lt;/script&gt; $\\frac{$ 用户") >= 8


@pytest.mark.parametrize(
    ("trajectory", "expected"),
    [
        ([], "No checks were recorded"),
        ([make_record(50, [0.6], loss=None)], "No dimension changed"),
        ([make_record(50, [0.6], loss=math.nan), make_record(100, [])], "Resident memory"),
        ([make_record(0, [0.5], seconds=0.0)], "training, 0.5000 at the end"),
    ],
    ids=["empty", "one", "two", "step-zero"],
)
def test_short_trajectories_give_a_page(trajectory, expected, tmp_path):
    plan = [{"field": "a", "vocabulary_size": 10, "dimension": 0}]
    page = render(tmp_path / "page.html", plan, trajectory, settings={})
    assert expected in page
    assert "nan" not in page
    assert "AUC" not in page


def test_beyond_sixty_fields_the_largest_are_drawn(tmp_path):
    plan, trajectory = make_search(num_fields=62, num_checks=3)
    page = render(tmp_path / "page.html", plan, trajectory)
    assert page.count("<b title=") == MAX_FIELD_CELLS
    assert "Shown are the 60 fields with the most parameters, of 62." in page
    assert page.count('<td class="dimension">') == 62 + 1


@pytest.mark.parametrize("package", ["jinja2", "matplotlib"])
def test_missing_extra_is_named(package, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=rf"needs {package}.*pip install keras-dimgrow\[report\]"):
        render(tmp_path / "page.html", [], [])


def test_import_needs_neither_matplotlib_nor_jinja(monkeypatch):
    monkeypatch.setattr(keras_dimgrow, "report", keras_dimgrow.report)
    for name in [name for name in sys.modules if name.startswith("keras_dimgrow.report")]:
        monkeypatch.delitem(sys.modules, name)
    for package in ("jinja2", "matplotlib"):
        monkeypatch.setitem(sys.modules, package, None)
    assert callable(importlib.import_module("keras_dimgrow.report").write_report)
