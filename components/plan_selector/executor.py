"""The executor of PlanSelector: compares what the searches say of themselves, and hands one of them on."""

import json
import logging
import os
from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf
from tfx import types
from tfx.dsl.components.base import base_executor
from tfx.types import artifact_utils
from tfx.utils import io_utils

from components.dim_search.executor import OUTCOME

logger = logging.getLogger(__name__)


class Executor(base_executor.BaseExecutor):
    """Copies the plan and the report of the chosen search."""

    def Do(  # noqa: N802 (TFX's name)
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        self._log_startup(input_dict, output_dict, exec_properties)
        num_trials = sum(1 for key, artifacts in input_dict.items() if key.startswith("report_") and artifacts)
        plans, reports = (
            [artifact_utils.get_single_instance(input_dict[f"{name}_{number}"]) for number in range(num_trials)]
            for name in ("plan", "report")
        )
        outcomes = []
        for report in reports:
            with tf.io.gfile.GFile(os.path.join(report.uri, OUTCOME)) as file:
                outcomes.append(json.load(file))
        chosen = choose_trial(outcomes, exec_properties["tolerance"])
        note = (
            f"Of {num_trials} trials, budgets {', '.join(json.dumps(o['parameter_budget']) for o in outcomes)}, the one within "
            f"{json.dumps(outcomes[chosen]['parameter_budget'])} is the smallest with a held-out AUC of at least "
            f"{1 - exec_properties['tolerance']:g} times the best: {outcomes[chosen]['validation_auc']:.4f}."
        )
        logger.info("search: %s", note)
        best = artifact_utils.get_single_instance(output_dict["best_hyperparameters"])
        report = artifact_utils.get_single_instance(output_dict["search_report"])
        for source, copy in ((plans[chosen], best), (reports[chosen], report)):
            io_utils.copy_dir(source.uri, copy.uri)
        with tf.io.gfile.GFile(os.path.join(report.uri, "trials.json"), "w") as file:
            json.dump({"schema_version": 1, "chosen": chosen, "trials": outcomes}, file, indent=2, sort_keys=True)
        for key in ("parameters", "uniform_parameters"):
            report.set_int_custom_property(key, outcomes[chosen][key])
        report.set_string_custom_property("method", outcomes[chosen]["method"])
        report.set_string_custom_property("parameter_budget", json.dumps(outcomes[chosen]["parameter_budget"]))
        report.set_string_custom_property("note", f"{note} {outcomes[chosen]['note'] or ''}".strip())


def choose_trial(outcomes: Sequence[Mapping[str, Any]], tolerance: float) -> int:
    """Position of the trial with the fewest `parameters` whose `validation_auc` is at least (1 - tolerance) times the best.

    Example:
        >>> choose_trial([{"parameters": 9, "validation_auc": 0.8}, {"parameters": 5, "validation_auc": 0.7995}], 0.001)
        1
    """
    least = (1 - tolerance) * max(outcome["validation_auc"] for outcome in outcomes)
    good = [number for number, outcome in enumerate(outcomes) if outcome["validation_auc"] >= least]
    return min(good, key=lambda number: outcomes[number]["parameters"])
