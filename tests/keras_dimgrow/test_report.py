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
from keras_dimgrow.report.facts import event_rows, headline, plan_rows, race_rows, uniform_model
from keras_dimgrow.report.panels import MAX_FIELD_CELLS
from keras_dimgrow.report.traces import Trace, gain_traces, gate_traces


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


SETTINGS = {
    "method": "dimgrow_paper",
    "max_steps": 8000,
    "check_every": 50,
    "grow_threshold": 0.6,
    "shrink_threshold": 0.01,
}
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


def make_look(step: int, dimensions: dict[str, int], gains: dict[str, list[float]], **changes) -> dict:
    """One look of a search by utilities with the fields of `dimensions`, of 10 values each."""
    record = make_record(step, [], dimensions=dimensions, gains=gains, validation_loss=0.5, validation_auc=0.7)
    del record["gates"]
    return record | {"parameters": 10 * sum(dimensions.values())} | changes


def make_entry(number: int, name: str, gain: float, is_eliminated: bool = False, **changes) -> dict:
    """What one plan did in one round of a race against a plan of log loss 0.5."""
    entry = {"round": number, "name": name, "same_plan_as": [], "parameters": 1000, "steps": 50 * number}
    entry |= {"log_loss": 0.5 - gain, "auc": 0.7 + gain, "gain": gain, "standard_error": 0.002 if gain else 0.0}
    return entry | {"is_eliminated": is_eliminated} | changes


RACE = [
    make_entry(1, "found", 0.0),
    make_entry(1, "uniform", -0.01, is_eliminated=True, same_plan_as=["filled"], parameters=960),
    make_entry(1, "neighbour 1", 0.001, parameters=1010),
    make_entry(2, "found", 0.0),
    make_entry(2, "neighbour 1", 0.00375, parameters=1010),
]


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


def test_the_search_time_holds_the_race():
    rows = plan_rows([{"field": "a", "vocabulary_size": 10, "dimension": 1}])
    facts = headline(rows, uniform_model(rows, 16), [make_record(50, [0.5], seconds=100.0)], race_seconds=25.0)

    (time,) = [fact for fact in facts if fact["label"] == "Search time"]
    assert (time["value"], time["note"]) == ("2 min 5 s", "race 25 s")


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
    assert sorted((trace.steps, trace.values, trace.is_kept) for trace in traces) == [
        ([0, 10], [0.5, 0.005], False),
        ([0, 10, 20, 30, 40], [0.5, 0.9, 0.95, 0.97, 0.98], True),
        ([30, 40], [0.5, 0.7], True),
    ]


def test_gains_are_followed_by_rank_and_ranks_beyond_the_plan_are_marked():
    gains = [[0.1], [0.2, 0.01], [0.3], [0.3, 0.02, -0.001]]
    looks = [make_look(10 * i, {"a": len(values)}, {"a": values}) for i, values in enumerate(gains, 1)]

    assert gain_traces(looks, "a", dimension=2) == [
        Trace([10, 20, 30, 40], [0.1, 0.2, 0.3, 0.3], True),
        Trace([20], [0.01], True),
        Trace([40], [0.02], True),
        Trace([40], [-0.001], False),
    ]
    assert gain_traces(looks, "other", dimension=2) == []


def test_events_of_a_check_say_what_each_field_got():
    events = [{"field": "a", "action": "grow"}, {"field": "b", "action": "drop"}, {"field": "c", "action": "grow"}]
    looks = [
        make_look(10, {"a": 1, "b": 4, "c": 1}, {}),
        make_look(20, {"a": 5, "b": 0, "c": 2}, {}, events=events),
    ]

    assert event_rows(looks) == [
        {"step": 20, "seconds": 2.0, "grow": ["a (5)", "c (2)"], "drop": ["b (0)"], "revive": []}
    ]


def test_race_rows_stand_in_the_order_of_the_last_judgement():
    rows = race_rows(RACE, parameters=1010)

    assert [(row.names, row.steps, row.eliminated_in) for row in rows] == [
        ("neighbour 1", 100, None),
        ("found", 100, None),
        ("uniform = filled", 50, 1),
    ]
    assert [row.gain for row in rows] == [0.00375, None, -0.01]
    assert [row.is_chosen for row in rows] == [True, False, False]


def test_no_plan_is_marked_where_sizes_cannot_tell_which_was_chosen():
    twins = [entry | {"parameters": 1000} for entry in RACE]

    assert not any(row.is_chosen for row in race_rows(twins, parameters=1000))
    assert race_rows([], parameters=1000) == []


@pytest.fixture
def page_of_looks(tmp_path):
    plan = [{"field": name, "vocabulary_size": 10, "dimension": 2 - i} for i, name in enumerate("abc")]
    looks = [
        make_look(10, {"a": 2, "b": 1, "c": 1}, {"a": [0.03], "b": [0.001], "c": [-1e-6]}),
        make_look(20, {"a": 2, "b": 1, "c": 0}, {"a": [0.04, 0.002], "b": [0.0], "c": [0.0]}),
    ]
    looks[1]["events"] = [{"field": "c", "action": "drop"}]
    note = "The plan takes 40% of the budget & says <so>."
    return render(
        tmp_path / "page.html", plan, looks, settings={}, race=RACE, race_seconds=12.0, note=note, uniform_dimension=16
    )


def test_a_search_by_gains_shows_gains_race_and_note(page_of_looks):
    assert "the gain of each of its dimensions" in page_of_looks
    assert "gates" not in page_of_looks
    assert 'aria-label="Dimension and gains of field a over the steps; 2 in the plan."' in page_of_looks
    # The largest gain is 0.04: the axis ends at 0.1 and begins four decades below.
    assert page_of_looks.count(">1e-1<") == page_of_looks.count(">1e-5<") == 3
    assert '<p class="remark">The plan takes 40% of the budget &amp; says &lt;so&gt;.</p>' in page_of_looks
    assert "c (0)" in page_of_looks
    assert "judged on held-out rows, in 12 s" in page_of_looks
    rows = [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in re.findall(r"<tr.*?</tr>", page_of_looks, re.S)]
    assert ["1,010", "100", "0.49625", "0.7037", "+0.00375 &plusmn; 0.00200", ""] in rows
    assert ["1,000", "100", "0.50000", "0.7000", "incumbent", ""] in rows
    assert ["960", "50", "0.51000", "0.6900", "-0.01000 &plusmn; 0.00200", "1"] in rows


def test_records_without_gates_gains_losses_and_events_show_their_dimensions(tmp_path):
    keys = ("step", "seconds", "dimensions", "parameters", "table_bytes")
    records = [{key: make_record(step, [0.5])[key] for key in keys} for step in (10, 20)]
    plan = [{"field": "a", "vocabulary_size": 10, "dimension": 1}]

    page = render(tmp_path / "page.html", plan, records, settings={})

    assert 'aria-label="Dimension of field a over the steps; 1 in the plan."' in page
    for absent in ("gates", "the gain", "<h2>Race</h2>", "<h2>Events</h2>", "<h2>Quality", 'class="remark"', "AUC"):
        assert absent not in page


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
