"""search.trials: several searches in the graph, a node that chooses, and what a configuration may say of them."""

import json

import pytest

from pipeline.config import load_config
from pipeline.dag import Locations, create_pipeline, plan_node
from pipeline.errors import UserError
from pipeline.runners import compile_pipeline

TRIALS = "search.trials=[0.05, 0.2, 64MB]"


def config_with(*overrides):
    return load_config("adult", [*overrides, "search.parameter_budget=null"])


@pytest.fixture
def locations():
    return Locations(data="data", data_format="csv", root="root")


def test_each_budget_is_searched_by_a_node_of_its_own_and_the_chosen_plan_is_trained(locations):
    config = config_with(TRIALS)

    nodes = {node.id: node for node in create_pipeline(config, locations).components}

    searches = [nodes[f"DimSearch{number}"] for number in (1, 2, 3)]
    assert [json.loads(search.exec_properties["parameter_budget"]) for search in searches] == [0.05, 0.2, "64MB"]
    assert not any(search.id in other.upstream_nodes for search in searches for other in searches)
    assert nodes["Trainer"].inputs["hyperparameters"].producer_component_id == plan_node(config) == "PlanSelector"


def test_the_graph_with_trials_compiles_for_vertex_and_has_no_budget_as_a_parameter(locations):
    compiled = compile_pipeline(config_with(TRIALS), locations, "vertex")

    root = compiled.job["pipelineSpec"]["root"]
    tasks = root["dag"]["tasks"]
    assert sorted(compiled.parameters) == sorted(root["inputDefinitions"]["parameters"]) == ["data", "root"]
    assert sorted(tasks["PlanSelector"]["dependentTasks"]) == ["DimSearch1", "DimSearch2", "DimSearch3"]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["search.trials=[0.1]"], "search.trials must be from 2 to 8 different budgets"),
        (["search.trials=[0.1, 0.1]"], "search.trials must be from 2 to 8 different budgets"),
        (["search.trials=[0.1, 1]"], "is one embedding parameter"),
        (["search.trials=0.1"], r"search.trials must be a list of values, such as \[0.1, 0.2\]"),
        (["search.trials=[0.1, 0.2]", "search.method=random"], "must be dimgrow where search.trials are given"),
    ],
)
def test_trials_that_cannot_be_are_refused(overrides, message):
    with pytest.raises(UserError, match=message):
        config_with(*overrides)


def test_trials_and_a_budget_are_one_too_many():
    with pytest.raises(UserError, match=r"parameter_budget must be null where .* Give search.trials or"):
        load_config("adult", ["search.trials=[0.1, 0.2]", "search.parameter_budget=0.1"])
