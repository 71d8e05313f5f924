"""What a run produced, read back from ML Metadata and the artifacts themselves."""

import csv
import dataclasses
import glob
import json
import os
from typing import Any

import ml_metadata as mlmd
import tensorflow as tf
import tensorflow_model_analysis as tfma
from ml_metadata import proto

from keras_dimgrow import EmbeddingPlan
from keras_dimgrow.budget import Budget
from pipeline.config import PipelineConfig
from pipeline.dag import UNIFORM_EVALUATOR, Locations, plan_node
from pipeline.infra_validation import decide_infra_validation
from pipeline.runners import metadata_path
from serving.check import predict_rows
from serving.warmup import read_warmup


@dataclasses.dataclass(frozen=True)
class RunSummary:
    """The outcome of one pipeline run.

    `note` is what the search has to say about its plan, None for nothing; `method` and `parameter_budget` are as configured.
    `auc` and `log_loss` (nats) are TFMA's on the test split; the `uniform_` ones are of the model in which every field has
    `uniform_dimension` dimensions, None without that comparison. `seconds` is wall time per node, near 0 for reused ones.
    `storage` is how the exported tables are stored, and what this changed, on the eval split, in AUC and in log loss.
    `warmup_records` lie in the SavedModel; `infra_validation` says how InfraValidator, which runs it in TF Serving, went, or
    why it was off. `prediction` is what the exported SavedModel says of the first row of the data.
    """

    method: str
    parameter_budget: Budget | None
    note: str | None
    plan: EmbeddingPlan
    uniform_dimension: int
    auc: float
    log_loss: float
    uniform_auc: float | None
    uniform_log_loss: float | None
    blessed: bool
    saved_model: str
    storage: dict[str, Any]
    warmup_records: int
    infra_validation: str
    report: str
    seconds: dict[str, float]
    prediction: dict[str, Any]

    @property
    def uniform_parameters(self) -> int:
        """Embedding parameters of the uniform model."""
        return sum(field.vocabulary_size for field in self.plan.fields) * self.uniform_dimension

    def to_dict(self) -> dict[str, Any]:
        """The summary as plain JSON types: what `--json` prints."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return values | {
            "plan": self.plan.dimensions,
            "parameters": self.plan.parameters,
            "uniform_parameters": self.uniform_parameters,
        }


def summarise_run(config: PipelineConfig, locations: Locations) -> RunSummary:
    """Collects the results of the latest run under `locations.root`.

    Raises:
        FileNotFoundError: if nothing ran there.
    """
    nodes = _latest_run(config, locations.root)
    search = nodes[plan_node(config)].outputs
    plan = EmbeddingPlan.load(os.path.join(search["best_hyperparameters"].uri, "plan.json"))
    auc, log_loss = _metrics(nodes["Evaluator"])
    uniform_auc = uniform_log_loss = None
    if config.compare_with_uniform:
        uniform_auc, uniform_log_loss = _metrics(nodes[UNIFORM_EVALUATOR])
    pushed = nodes["Pusher"].outputs.get("pushed_model")
    destination = pushed.custom_properties["pushed_destination"].string_value if pushed else ""
    saved_model = destination or os.path.join(nodes["Trainer"].outputs["model"].uri, "Format-Serving")
    row = _first_row(config, locations)
    report = search["search_report"]
    return RunSummary(
        method=config.search.method,
        parameter_budget=json.loads(report.custom_properties["parameter_budget"].string_value),
        note=report.custom_properties["note"].string_value or None,
        plan=plan,
        uniform_dimension=config.uniform_dimension,
        auc=auc,
        log_loss=log_loss,
        uniform_auc=uniform_auc,
        uniform_log_loss=uniform_log_loss,
        blessed=nodes["Evaluator"].outputs["blessing"].custom_properties["blessed"].int_value == 1,
        saved_model=saved_model,
        storage=_read_storage(nodes["Trainer"]),
        warmup_records=len(read_warmup(saved_model)),
        infra_validation=_tell_infra_validation(config, nodes.get("InfraValidator")),
        report=os.path.join(report.uri, "report.html"),
        seconds={name: round(node.seconds, 1) for name, node in nodes.items()},
        prediction={"row": row, "probability": predict_rows(saved_model, [row])[0]},
    )


@dataclasses.dataclass(frozen=True)
class _Node:
    seconds: float
    outputs: dict[str, Any]


def _latest_run(config: PipelineConfig, root: str) -> dict[str, _Node]:
    """Node id -> what it took and its output artifacts, in the order of execution, of the latest run of the pipeline."""
    path = metadata_path(root)
    if not os.path.exists(path):
        raise FileNotFoundError(f"{root} has no metadata.sqlite: no pipeline ran there. Run it: python -m pipeline run")
    connection = proto.ConnectionConfig()
    connection.sqlite.filename_uri = path
    store = mlmd.MetadataStore(connection)
    run = max(store.get_contexts_by_type("pipeline_run"), key=lambda context: context.id)
    nodes = {}
    for execution in sorted(store.get_executions_by_context(run.id), key=lambda e: e.id):
        contexts = store.get_contexts_by_execution(execution.id)
        node_id = next(c.name for c in contexts if c.type == "node").removeprefix(f"{config.name}.")
        outputs = {}
        for event in store.get_events_by_execution_ids([execution.id]):
            if event.type == proto.Event.OUTPUT:
                outputs[event.path.steps[0].key] = store.get_artifacts_by_id([event.artifact_id])[0]
        seconds = (execution.last_update_time_since_epoch - execution.create_time_since_epoch) / 1000
        nodes[node_id] = _Node(seconds, outputs)
    return nodes


def _metrics(evaluator: _Node) -> tuple[float, float]:
    """AUC and log loss over all rows."""
    result = tfma.load_eval_result(evaluator.outputs["evaluation"].uri)
    metrics = result.get_metrics_for_slice(())
    return tuple(metrics[name]["doubleValue"] for name in ("auc", "binary_crossentropy"))


def _read_storage(trainer: _Node) -> dict[str, Any]:
    with open(os.path.join(trainer.outputs["model_run"].uri, "metrics.json"), encoding="utf-8") as file:
        metrics = json.load(file)
    return {
        "tables": metrics["storage"],
        "auc_difference": metrics["storage_auc_difference"],
        "log_loss_difference": metrics["storage_log_loss_difference"],
    }


def _tell_infra_validation(config: PipelineConfig, validator: _Node | None) -> str:
    if validator is None:
        return decide_infra_validation(config.serving.infra_validation).reason
    is_blessed = validator.outputs["blessing"].custom_properties["blessed"].int_value == 1
    outcome = (
        "loaded it and answered" if is_blessed else "did not start or failed on it, so it was not pushed: see the log"
    )
    return f"InfraValidator: TF Serving {config.serving.image_tag} {outcome}"


def _first_row(config: PipelineConfig, locations: Locations) -> dict[str, Any]:
    """The first row of the prepared data without its label, missing values left out."""
    files = sorted(glob.glob(os.path.join(locations.data, locations.data_pattern)))
    if locations.data_format == "csv":
        with open(files[0], newline="", encoding="utf-8") as file:
            row = next(csv.DictReader(file))
        return {name: value for name, value in row.items() if value and name != config.data.label}
    compression = "GZIP" if files[0].endswith("gz") else ""
    record = next(iter(tf.data.TFRecordDataset(files[:1], compression_type=compression))).numpy()
    row = {}
    for name, feature in tf.train.Example.FromString(record).features.feature.items():
        values = getattr(feature, feature.WhichOneof("kind")).value if feature.WhichOneof("kind") else ()
        if values and name != config.data.label:
            row[name] = values[0].decode() if isinstance(values[0], bytes) else values[0]
    return row
