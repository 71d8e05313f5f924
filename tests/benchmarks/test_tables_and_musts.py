"""What results say, on results that were made up."""

import dataclasses

import pytest

from benchmarks.harness import middle
from benchmarks.quality.data import Truth
from benchmarks.quality.musts import large_useless_kept, measure, useful_lost
from benchmarks.quality.results import Unfit
from benchmarks.quality.tables import make_tables

PLAN = {"user": 2, "hour": 4, "noise": 0}  # 280 parameters: 8.75% of uniform 16
TRUTH = Truth(ranks={"user": 1, "hour": 2, "noise": 0}, useless=frozenset({"noise"}), duplicates={})


def _falling_short(figures):
    return [figure.name for figure, values in figures if middle(figure, values) > figure.must]


def test_table_of_a_budget_shows_means_errors_and_differences(make_rows, make_results):
    searched = {"search_seconds": 15.0, "race_seconds": 5.0, "peak_table_bytes": 12 * 300}
    results = make_results(make_rows("dimgrow", 0.1, [[0.72, 0.74], [0.72, 0.74]], PLAN, **searched))

    table = make_tables(results)[0]
    rows = {row[0]: dict(zip(table.headings, row, strict=True)) for row in table.rows}

    assert table.title == "Budget 0.1 of uniform 16: 320 parameters"
    assert list(rows) == ["uniform", "dimgrow", "uniform 16"]
    assert rows["dimgrow"]["AUC"] == "0.7300 ± 0.0058"
    assert rows["dimgrow"]["over best rule"] == "+0.0250 ± 0.0029"
    assert rows["dimgrow"]["of budget"] == "0.875"
    assert (rows["dimgrow"]["search / uniform 16"], rows["dimgrow"]["without race"]) == ("1.50", "1.00")
    assert rows["dimgrow"]["peak bytes"] == "3.516 KiB"
    assert rows["uniform"]["over best rule"] == "best rule"
    assert rows["uniform"]["search / uniform 16"] == ""


def test_table_names_what_gave_no_plan(make_results):
    unfit = [Unfit("mixed_dimension", 0.1, seed, "does not fit: too small") for seed in (0, 1)]

    assert make_tables(make_results(unfit=unfit))[0].notes == ["mixed_dimension, seed 0, 1: does not fit: too small"]


def test_seeds_agree_whatever_the_order_of_fields(make_rows, make_results):
    [first] = make_rows("dimgrow", 0.1, [[0.72]], PLAN)
    [resumed] = make_rows("dimgrow", 0.1, [[0.72]], dict(sorted(PLAN.items())))
    rows = [first, dataclasses.replace(resumed, seed=1)]

    assert make_results(rows).find("dimgrow", 0.1).correlation == 1.0


def test_a_good_search_holds_every_must(make_rows, make_results):
    searched = {"search_seconds": 15.0, "race_seconds": 6.0, "peak_table_bytes": 12 * 320}
    results = make_results(
        make_rows("dimgrow", 0.1, [[0.72, 0.73], [0.72, 0.73]], PLAN, **searched),
        make_rows("autodim", 0.1, [[0.71, 0.72], [0.71, 0.72]], PLAN, search_seconds=20.0, peak_table_bytes=12),
        make_rows("oracle", None, [[0.72, 0.73], [0.72, 0.73]], PLAN),
    )

    figures = measure(results, "dimgrow", "planted", TRUTH)

    assert _falling_short(figures) == []
    assert [figure.name for figure, _ in figures] == [
        "0.1: searches without a plan",
        "0.1: AUC of uniform, the best rule, - AUC",
        "0.1: AUC of autodim, the nearest of 1 other methods, - AUC",
        "0.1: parameters / budget",
        "0.1: allocation / budget",
        "0.1: search without race / training of uniform 16",
        "0.1: search with race / training of uniform 16",
        "0.1: search / that of autodim, the fastest other",
        "0.1: 1 - correlation of seeds",
        "0.1: AUC of the oracle (8.8% of uniform 16) - AUC",
        "0.1: large useless fields kept",
        "0.1: useful fields lost",
    ]


def test_a_bad_search_falls_short_of_every_must(make_rows, make_results):
    searched = {"search_seconds": 45.0, "race_seconds": 20.0, "peak_table_bytes": 12 * 640}
    bad = {"user": 0, "hour": 1, "noise": 4}  # 340 parameters
    other = {"user": 1, "hour": 0, "noise": 3}
    results = make_results(
        make_rows("dimgrow", 0.1, [[0.70, 0.71]], bad, **searched),
        make_rows("dimgrow", 0.1, [[], [0.70, 0.70]], other, **searched),
        make_rows("autodim", None, [[0.74, 0.75], [0.74, 0.75]], PLAN, search_seconds=20.0, peak_table_bytes=12),
        make_rows("oracle", None, [[0.75, 0.76], [0.75, 0.76]], PLAN),
        unfit=[Unfit("dimgrow", 0.1, 2, "does not fit")],
    )

    figures = measure(results, "dimgrow", "planted", TRUTH)

    assert _falling_short(figures) == [figure.name for figure, _ in figures]
    assert len(figures) == 12


def test_losing_to_a_rule_by_less_than_a_standard_error_is_forgiven(make_rows, make_results):
    within = make_results(make_rows("dimgrow", 0.1, [[0.68, 0.72], [0.68, 0.72]], PLAN))
    beyond = make_results(make_rows("dimgrow", 0.1, [[0.68, 0.69], [0.68, 0.69]], PLAN))
    name = "0.1: AUC of uniform, the best rule, - AUC"

    assert name not in _falling_short(measure(within, "dimgrow", "clicks", None))
    assert name in _falling_short(measure(beyond, "dimgrow", "clicks", None))


def test_public_data_is_held_against_uniform_16_at_half_of_it(make_rows, make_results):
    plan = {"user": 8, "hour": 8, "noise": 8}
    results = make_results(make_rows("dimgrow", 0.5, [[0.7998, 0.8094], [0.7998, 0.8094]], plan))

    assert "0.5: AUC of uniform 16 - AUC" not in _falling_short(measure(results, "dimgrow", "taxi", None))
    assert not [f for f, _ in measure(results, "dimgrow", "clicks", None) if "uniform 16 - AUC" in f.name]


def test_a_method_that_was_not_compared_has_no_figures(make_results):
    assert measure(make_results(), "dimgrow", "clicks", None) == []


def test_a_useful_field_is_not_lost_while_its_duplicate_is_kept():
    truth = Truth(ranks={"a": 2, "b": 1, "copy": 0}, useless=frozenset(), duplicates={"copy": "a"})

    assert useful_lost(truth, {"a": 0, "b": 1, "copy": 2}) == []
    assert useful_lost(truth, {"a": 0, "b": 0, "copy": 0}) == ["a", "b"]


@pytest.mark.parametrize(("size", "kept"), [(1, []), (11, ["noise"])])
def test_only_large_useless_fields_count_as_kept(size, kept):
    truth = Truth(ranks={"a": 1, "noise": 0}, useless=frozenset({"noise"}), duplicates={})

    assert large_useless_kept(truth, {"a": 1, "noise": 1}, {"a": 1000, "noise": size}) == kept
    assert large_useless_kept(truth, {"a": 1, "noise": 0}, {"a": 1000, "noise": size}) == []
