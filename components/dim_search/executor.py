"""The executor of DimSearch: runs `keras_dimgrow.search` on one machine."""

import hashlib
import json
import logging
import os
import platform
import time
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf
import tensorflow_transform as tft
from tfx import types
from tfx.dsl.components.base import base_executor
from tfx.types import artifact_utils

from components.transformed_data import fields_of, read_split
from keras_dimgrow import DimGrowPaperConfig, EmbeddingPlan, ModelConfig, search
from keras_dimgrow.report import write_report
from keras_dimgrow.summaries import SummaryWriter

logger = logging.getLogger(__name__)


class Executor(base_executor.BaseExecutor):
    """Searches, and writes the plan and the report."""

    def Do(  # noqa: N802 (TFX's name)
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        self._log_startup(input_dict, output_dict, exec_properties)
        tf.config.experimental.enable_op_determinism()
        examples = artifact_utils.get_single_instance(input_dict["examples"])
        graph = artifact_utils.get_single_instance(input_dict["transform_graph"])
        best = artifact_utils.get_single_instance(output_dict["best_hyperparameters"])
        report = artifact_utils.get_single_instance(output_dict["search_report"])
        config = DimGrowPaperConfig.from_json(exec_properties["search_config"])
        label, batch_size, seed = (exec_properties[key] for key in ("label", "batch_size", "seed"))

        fields = fields_of(tft.TFTransformOutput(graph.uri), label)
        checkpoint = _checkpoint_directory(exec_properties, examples.uri)

        def batches(split: str, **options):
            files = tf.io.gfile.glob(os.path.join(artifact_utils.get_split_uri([examples], split), "*"))
            return read_split(files, fields, label, **options)

        result = search(
            fields,
            batches("train", batch_size=batch_size, shuffle_seed=seed),
            batches("eval", batch_size=max(batch_size, 4096)),
            config=config,
            model_config=ModelConfig.from_json(exec_properties["model_config"]),
            seed=seed,
            checkpoint_directory=checkpoint,
            on_check=_progress_logger(config, batch_size, len(fields)),
        )

        uniform = EmbeddingPlan.uniform(fields, exec_properties["uniform_dimension"])
        for artifact in (best, report):
            tf.io.gfile.makedirs(artifact.uri)
        result.plan.save(os.path.join(best.uri, "plan.json"))
        _write_trajectory(report.uri, result.trajectory)
        write_report(
            os.path.join(report.uri, "report.html"),
            plan=[vars(field) | {"field": field.name} for field in result.plan.fields],
            trajectory=result.trajectory,
            settings=_flatten(config.to_dict()) | {"batch_size": batch_size, "seed": seed},
            versions={"python": platform.python_version(), "tensorflow": tf.__version__, "keras": keras.__version__},
            uniform_dimension=exec_properties["uniform_dimension"],
        )
        report.set_int_custom_property("parameters", result.plan.parameters)
        report.set_int_custom_property("uniform_parameters", uniform.parameters)
        if checkpoint and tf.io.gfile.exists(checkpoint):
            tf.io.gfile.rmtree(checkpoint)


def _checkpoint_directory(exec_properties: dict[str, Any], examples_uri: str) -> str | None:
    """A directory that only a search with the same data, settings and code shares."""
    if not exec_properties["checkpoint_directory"]:
        return None
    identity = json.dumps([examples_uri, exec_properties], sort_keys=True)
    digest = hashlib.sha256(identity.encode()).hexdigest()[:16]
    return os.path.join(exec_properties["checkpoint_directory"], digest)


def _progress_logger(config: DimGrowPaperConfig, batch_size: int, num_fields: int) -> Callable[[dict[str, Any]], None]:
    """Logs one line a check; the record's attribute `search_progress` holds the same as numbers, for a terminal."""
    begin: list[tuple[float, int]] = []

    def log(record: dict[str, Any]) -> None:
        begin.append((time.monotonic(), record["step"]))
        seconds, steps = begin[-1][0] - begin[0][0], begin[-1][1] - begin[0][1]
        steps_per_s = steps / seconds if steps else 0.0
        progress = {
            "step": record["step"],
            "max_steps": config.max_steps,
            "rows_per_s": round(steps_per_s * batch_size),
            "loss": record["loss"],
            "total_dims": record["total_dimensions"],
            "parameters": record["parameters"],
            "max_parameters": config.growth.max_parameters,
            "eta_s": round((config.max_steps - record["step"]) / steps_per_s) if steps else None,
        }
        loss = "-" if record["loss"] is None else f"{record['loss']:.4f}"
        logger.info(
            "search step %d/%d: loss %s, %d dimensions in %d fields, %d parameters, %d rows/s",
            *(record["step"], config.max_steps, loss, progress["total_dims"], num_fields),
            *(record["parameters"], progress["rows_per_s"]),
            extra={"search_progress": progress},
        )

    return log


def _write_trajectory(directory: str, trajectory: list[dict[str, Any]]) -> None:
    with tf.io.gfile.GFile(os.path.join(directory, "trajectory.jsonl"), "w") as file:
        for record in trajectory:
            file.write(json.dumps(record, sort_keys=True) + "\n")
    summaries = SummaryWriter(os.path.join(directory, "tensorboard"))
    for record in trajectory:
        summaries.write(record)


def _flatten(values: dict[str, Any]) -> dict[str, Any]:
    """One level of nested settings made flat: the names do not collide."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= value if isinstance(value, dict) else {key: value}
    return flat
