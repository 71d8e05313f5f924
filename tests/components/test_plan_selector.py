"""Which of several searches' plans is handed on, and what goes with it."""

import json

import pytest
from tfx.types import channel_utils, standard_artifacts

from components import DimSearch, PlanSelector, SearchReport
from components.plan_selector.executor import Executor, choose_trial
from tests.components.conftest import read_json


@pytest.mark.parametrize(
    ("trials", "tolerance", "chosen"),
    [
        ([(100, 0.80), (200, 0.81)], 0.0, 1),
        ([(100, 0.80), (200, 0.81)], 0.02, 0),
        ([(300, 0.8100), (200, 0.8099), (100, 0.8090)], 0.001, 1),
        ([(300, 0.7), (200, 0.7)], 0.0, 1),  # as good, and smaller
        ([(100, 0.70), (200, 0.81), (300, 0.80)], 0.02, 1),  # smaller and better
    ],
)
def test_the_smallest_plan_that_is_about_as_good_as_the_best_is_chosen(trials, tolerance, chosen):
    outcomes = [{"parameters": parameters, "validation_auc": auc} for parameters, auc in trials]

    assert choose_trial(outcomes, tolerance) == chosen


def trial(directory, number, parameters, auc):
    plan, report = standard_artifacts.HyperParameters(), SearchReport()
    plan.uri, report.uri = (str(directory / f"{name}{number}") for name in ("plan", "report"))
    outcome = {
        "method": "dimgrow",
        "parameter_budget": 0.1 * (number + 1),
        "note": "As raced.",
        "uniform_parameters": 9000,
    }
    for artifact, name, content in (
        (plan, "plan.json", {"number": number}),
        (report, "outcome.json", outcome | {"parameters": parameters, "validation_auc": auc}),
        (report, "tensorboard/events", {}),
    ):
        path = directory / artifact.uri / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))
    return plan, report


def test_plan_and_report_of_the_chosen_trial_are_the_outputs_with_what_all_trials_found(tmp_path):
    trials = [trial(tmp_path, number, *found) for number, found in enumerate([(100, 0.7), (200, 0.8), (300, 0.8003)])]
    inputs = {}
    for number, (plan, report) in enumerate(trials):
        inputs |= {f"plan_{number}": [plan], f"report_{number}": [report]}
    best, report = standard_artifacts.HyperParameters(), SearchReport()
    best.uri, report.uri = str(tmp_path / "best"), str(tmp_path / "report")

    Executor().Do(
        inputs, {"best_hyperparameters": [best], "search_report": [report]}, {"tolerance": 0.001, "code_version": ""}
    )

    assert [file.name for file in (tmp_path / "best").iterdir()] == ["plan.json"]
    assert read_json(tmp_path / "best" / "plan.json") == {"number": 1}
    assert (tmp_path / "report" / "tensorboard" / "events").exists()
    summary = read_json(tmp_path / "report" / "trials.json")
    assert (summary["chosen"], [outcome["parameters"] for outcome in summary["trials"]]) == (1, [100, 200, 300])
    assert report.get_int_custom_property("parameters") == 200
    assert json.loads(report.get_string_custom_property("parameter_budget")) == 0.2
    note = report.get_string_custom_property("note")
    assert note.startswith("Of 3 trials, budgets 0.1, 0.2, 0.3")
    assert note.endswith("0.8000. As raced.")


@pytest.mark.parametrize("number", [1, 9])
def test_another_number_of_searches_is_refused(number):
    examples = channel_utils.as_channel([standard_artifacts.Examples()])
    graph = channel_utils.as_channel([standard_artifacts.TransformGraph()])
    searches = [DimSearch(examples, graph, label="click").with_id(f"DimSearch{i}") for i in range(number)]

    with pytest.raises(ValueError, match=rf"from 2 to 8 searches; received {number}"):
        PlanSelector(searches)
