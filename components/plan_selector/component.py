"""PlanSelector: the plans of several searches in, the smallest that is about as good as the best one out."""

from collections.abc import Sequence

from tfx import types
from tfx.dsl.components.base import base_component, executor_spec
from tfx.types import component_spec, standard_artifacts

from components.artifacts import SearchReport
from components.dim_search.component import DimSearch
from components.plan_selector import executor

MAX_TRIALS = 8  # a component's inputs have names


class PlanSelectorSpec(component_spec.ComponentSpec):
    """The contract of PlanSelector; trials are numbered from 0."""

    PARAMETERS = {  # noqa: RUF012
        "tolerance": component_spec.ExecutionParameter(type=float),
        "code_version": component_spec.ExecutionParameter(type=str),
    }
    INPUTS = {  # noqa: RUF012
        f"{name}_{number}": component_spec.ChannelParameter(type=kind, optional=True)
        for number in range(MAX_TRIALS)
        for name, kind in (("plan", standard_artifacts.HyperParameters), ("report", SearchReport))
    }
    OUTPUTS = {  # noqa: RUF012
        "best_hyperparameters": component_spec.ChannelParameter(type=standard_artifacts.HyperParameters),
        "search_report": component_spec.ChannelParameter(type=SearchReport),
    }


class PlanSelector(base_component.BaseComponent):
    """Chooses among searches of the same data with different budgets, which may run side by side.

    Its outputs are those of the chosen search, whose report gets `trials.json`, what all of them found.

    Args:
        searches: from 2 to MAX_TRIALS of them, which differ in their budgets only: their AUCs were measured alike.
        tolerance: the plan chosen is the smallest whose held-out AUC is at least (1 - tolerance) times the best one.
        code_version: a hash of the code that the node runs, so that the cache sees changes of it.

    Raises:
        ValueError: for another number of searches.
    """

    SPEC_CLASS = PlanSelectorSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(executor.Executor)

    def __init__(self, searches: Sequence[DimSearch], tolerance: float = 0.001, code_version: str = ""):
        if not 2 <= len(searches) <= MAX_TRIALS:
            raise ValueError(f"PlanSelector: from 2 to {MAX_TRIALS} searches; received {len(searches)}.")
        inputs = {}
        for number, search in enumerate(searches):
            inputs[f"plan_{number}"] = search.outputs["best_hyperparameters"]
            inputs[f"report_{number}"] = search.outputs["search_report"]
        spec = PlanSelectorSpec(
            **inputs,
            tolerance=tolerance,
            code_version=code_version,
            best_hyperparameters=types.Channel(type=standard_artifacts.HyperParameters),
            search_report=types.Channel(type=SearchReport),
        )
        super().__init__(spec=spec)
