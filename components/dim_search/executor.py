"""The executor of DimSearch: runs `keras_dimgrow.search` on the devices that there are, and writes what it finds."""

import hashlib
import json
import logging
import os
import platform
from typing import Any

import keras
import tensorflow as tf
import tensorflow_transform as tft
from tfx import types
from tfx.dsl.components.base import base_executor
from tfx.types import artifact_utils
from tfx.utils import path_utils

from components.dim_search.progress import progress_logger
from components.transformed_data import fields_of, read_split
from keras_dimgrow import METHODS, EmbeddingPlan, ModelConfig, SearchResult, search
from keras_dimgrow.budget import Budget, parse_budget
from keras_dimgrow.devices import scope_of, start_devices
from keras_dimgrow.distributed import is_chief
from keras_dimgrow.report import write_report
from keras_dimgrow.summaries import SummaryWriter

logger = logging.getLogger(__name__)

OUTCOME = "outcome.json"  # in the report: what a search is compared by


class Executor(base_executor.BaseExecutor):
    """Searches, and writes the plan and the report.

    On a machine with several GPUs the search takes all; with several workers (TF_CONFIG) every process runs this executor, and
    the first one writes. A process that is told to end (SIGTERM) leaves a checkpoint, from which the next run goes on.
    """

    def Do(  # noqa: N802 (TFX's name)
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        self._log_startup(input_dict, output_dict, exec_properties)
        strategy = start_devices()
        examples = artifact_utils.get_single_instance(input_dict["examples"])
        graph = artifact_utils.get_single_instance(input_dict["transform_graph"])
        best = artifact_utils.get_single_instance(output_dict["best_hyperparameters"])
        report = artifact_utils.get_single_instance(output_dict["search_report"])
        method, budget = exec_properties["method"], read_budget(exec_properties["parameter_budget"])
        config = METHODS[method].config.from_json(exec_properties["method_config"])
        label, seed = exec_properties["label"], exec_properties["seed"]

        fields = fields_of(tft.TFTransformOutput(graph.uri), label)
        start = _read_start(input_dict.get("base_model", []), method)
        checkpoint = _checkpoint_directory(exec_properties, examples.uri, start)
        max_parameters = None if budget is None else parse_budget(budget, fields)
        logger.info(
            "search by %s: %d fields, budget %s",
            *(method, len(fields)),
            f"{max_parameters} parameters" if budget else "none",
        )

        def batches(split: str, **options):
            files = tf.io.gfile.glob(os.path.join(artifact_utils.get_split_uri([examples], split), "*"))
            return read_split(files, fields, label, **options)

        train_data = batches("train", batch_size=exec_properties.get("batch_size"), shuffle_seed=seed)
        batch_size = train_data.element_spec[1].shape[0]  # known: shuffled batches have one size
        with scope_of(strategy):
            result = search(
                fields,
                train_data,
                batches("eval", batch_size=max(batch_size, 4096)),
                method=method,
                parameter_budget=budget,
                config=config,
                model_config=ModelConfig.from_json(exec_properties["model_config"]),
                seed=seed,
                checkpoint_directory=checkpoint,
                on_check=progress_logger(config, batch_size, max_parameters),
                start=start,
            )
            writes = is_chief()
        if result.note is not None:
            logger.info("search: %s", result.note)

        if not writes:
            logger.info("search: the plan is written by the first worker")
            return
        uniform = EmbeddingPlan.uniform(fields, exec_properties["uniform_dimension"])
        for artifact in (best, report):
            tf.io.gfile.makedirs(artifact.uri)
        result.plan.save(os.path.join(best.uri, "plan.json"))
        _write_records(report.uri, result)
        outcome = {
            "schema_version": 1,
            "method": method,
            "parameter_budget": budget,
            "parameters": result.plan.parameters,
            "uniform_parameters": uniform.parameters,
            "validation_auc": _validation_auc(result),
            "note": result.note,
        }
        with tf.io.gfile.GFile(os.path.join(report.uri, OUTCOME), "w") as file:
            json.dump(outcome, file, indent=2, sort_keys=True)
        write_report(
            os.path.join(report.uri, "report.html"),
            plan=_report_rows(result),
            trajectory=result.trajectory,
            settings={"method": method, "parameter_budget": budget}
            | _flatten(config.to_dict())
            | {"batch_size": batch_size, "seed": seed},
            versions={"python": platform.python_version(), "tensorflow": tf.__version__, "keras": keras.__version__},
            uniform_dimension=exec_properties["uniform_dimension"],
            race=result.race,
            race_seconds=result.race_seconds,
            note=result.note,
        )
        report.set_int_custom_property("parameters", result.plan.parameters)
        report.set_int_custom_property("uniform_parameters", uniform.parameters)
        for key in ("method", "parameter_budget"):
            report.set_string_custom_property(key, exec_properties[key])
        report.set_string_custom_property("note", result.note or "")
        if checkpoint and tf.io.gfile.exists(checkpoint):
            tf.io.gfile.rmtree(checkpoint)


def _read_start(base_models: list[types.Artifact], method: str) -> EmbeddingPlan | None:
    """The plan of an earlier model; None if there is no such model, or the method starts from none."""
    if not base_models:
        return None
    if not METHODS[method].takes_start:
        logger.info("search by %s starts from no earlier plan", method)
        return None
    uri = artifact_utils.get_single_instance(base_models).uri
    logger.info("search starts from the plan of the model %s", uri)
    return EmbeddingPlan.load(os.path.join(path_utils.serving_model_path(uri), "assets.extra", "plan.json"))


def _checkpoint_directory(
    exec_properties: dict[str, Any], examples_uri: str, start: EmbeddingPlan | None
) -> str | None:
    """A directory that only a search with the same data, settings, code and start shares."""
    if not exec_properties["root"]:
        return None
    identity = json.dumps([examples_uri, exec_properties, start and start.to_dict()], sort_keys=True)
    digest = hashlib.sha256(identity.encode()).hexdigest()[:16]
    return os.path.join(exec_properties["root"], "checkpoints", digest)


def read_budget(text: str) -> Budget | None:
    """The budget that JSON `text` stands for; 64MB may be without quotes, as people write it who start a run by hand."""
    try:
        return json.loads(text)
    except ValueError:
        return text  # `parse_budget` rejects what is no budget


def _report_rows(result: SearchResult) -> list[dict[str, Any]]:
    """The plan's fields as `write_report` takes them; of fields in chunks, what their rows had at the last check."""
    plan = result.plan
    unpruned = sum(table.parameters for table in plan.tables if table.is_chunked)
    rows = []
    for field in plan.fields:
        row = vars(field) | {"field": field.name}
        if field.is_chunked:
            mean = field.dimension * plan.pool_parameters / unpruned  # of a plan that was not trained: the mean of all
            mean = result.trajectory[-1]["dimensions"][field.name] if result.trajectory else mean
            row |= {"mean_dimension": mean}
        rows.append(row)
    return rows


def _write_records(directory: str, result: SearchResult) -> None:
    for name, records in (("trajectory", result.trajectory), ("race", result.race)):
        if records or name == "trajectory":
            with tf.io.gfile.GFile(os.path.join(directory, f"{name}.jsonl"), "w") as file:
                for record in records:
                    file.write(json.dumps(record, sort_keys=True) + "\n")
    summaries = SummaryWriter(os.path.join(directory, "tensorboard"))
    for record in result.trajectory:
        summaries.write(record)


def _validation_auc(result: SearchResult) -> float | None:
    """Held-out AUC of the plan: as it raced, from scratch, or else of the search at its best look; None if unmeasured."""
    last = [record for record in result.race if record["round"] == result.race[-1]["round"]]
    raced = [record for record in last if record["parameters"] == result.plan.parameters]
    if raced:
        return max(record["auc"] for record in raced)
    looks = [record for record in result.trajectory if record.get("validation_auc") is not None]
    return min(looks, key=lambda record: record["validation_loss"])["validation_auc"] if looks else None


def _flatten(values: dict[str, Any]) -> dict[str, Any]:
    """One level of nested settings made flat: the names do not collide."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= value if isinstance(value, dict) else {key: value}
    return flat
