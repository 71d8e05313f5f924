"""Runs the pipeline on this machine, or compiles it for Vertex and open-source Kubeflow."""

import dataclasses
import json
import os
from typing import Any

import tensorflow as tf
import yaml
from tfx.orchestration import metadata
from tfx.orchestration.local.local_dag_runner import LocalDagRunner

from pipeline.beam_options import make_beam_args
from pipeline.config import PipelineConfig
from pipeline.dag import Locations, create_pipeline
from pipeline.errors import UserError
from pipeline.infra_validation import decide_infra_validation


def metadata_path(root: str) -> str:
    """The SQLite file in which ML Metadata keeps what ran under `root`."""
    return os.path.join(root, "metadata.sqlite")


def run_locally(config: PipelineConfig, locations: Locations) -> None:
    """Runs all nodes in this process, one after the other; nodes that ran before with the same inputs are reused.

    Raises:
        UserError: if the configuration asks for an InfraValidator that this machine cannot run, or for flags unknown to Beam.
    """
    infra_platform = decide_infra_validation(config.serving.infra_validation).platform
    os.makedirs(locations.root, exist_ok=True)
    connection = metadata.sqlite_metadata_connection_config(metadata_path(locations.root))
    pipeline = create_pipeline(
        config,
        locations,
        infra_platform=infra_platform,
        enable_cache=True,
        metadata_connection_config=connection,
        beam_pipeline_args=make_beam_args(config.beam.profile, config.beam.args),
    )
    LocalDagRunner().run(pipeline)


@dataclasses.dataclass(frozen=True)
class CompiledPipeline:
    """A pipeline as a cluster gets it.

    Attributes:
        runner: "vertex" or "kubeflow".
        job: a PipelineJob as JSON; its `pipelineSpec` is the PipelineSpec.
        platform_spec: a PlatformSpec as JSON, of what only Kubernetes knows; empty if there is nothing of it.
        parameters: what a run can be given, with the values that it otherwise has.
    """

    runner: str
    job: dict[str, Any]
    platform_spec: dict[str, Any]
    parameters: dict[str, str]

    def write(self, output: str) -> None:
        """Writes a PipelineJob (.json, for Vertex), or the documents PipelineSpec and PlatformSpec (.yaml, for both).

        Raises:
            UserError: if the runner does not take files of this name, or the file cannot be written.
        """
        if output.endswith((".yaml", ".yml")):
            documents = [self.job["pipelineSpec"], *([self.platform_spec] if self.platform_spec else [])]
            text = yaml.safe_dump_all(documents, sort_keys=True)
        elif self.runner == "kubeflow":
            raise UserError(f"--output {output}: Kubeflow Pipelines takes files that end in .yaml. Rename it.")
        else:
            text = json.dumps(self.job, sort_keys=True)
        try:
            tf.io.gfile.makedirs(os.path.dirname(output) or ".")
            with tf.io.gfile.GFile(f"{output}.partial", "w") as file:
                file.write(text)
            tf.io.gfile.rename(f"{output}.partial", output, overwrite=True)
        except tf.errors.OpError as error:
            raise UserError(f"--output {output}: cannot be written: {error.message}.") from error


def compile_pipeline(config: PipelineConfig, locations: Locations, runner: str) -> CompiledPipeline:
    """The pipeline as Vertex AI ("vertex") or Kubeflow Pipelines v2 ("kubeflow") runs it.

    It has the parameters data, root and, without search.trials, budget; what the Trainer reads of the raw data, the rows that
    travel with the model, comes from the directory given here whatever they say. Open-source Kubeflow cannot resolve earlier
    models: there the blessing has no baseline. Neither takes an InfraValidator, which v2 graphs do not support, whatever
    serving.infra_validation says.

    Raises:
        UserError: for flags unknown to Beam, or without those that the profile needs; for what `complete_spec` rejects.
    """
    # Here, because they import kfp and Google Cloud's clients, which a local run does not need.
    from tfx.orchestration.kubeflow.v2.kubeflow_v2_dag_runner import KubeflowV2DagRunner, KubeflowV2DagRunnerConfig

    from pipeline.cluster_spec import complete_spec

    pipeline = create_pipeline(
        config,
        locations,
        with_resolver=runner == "vertex",
        with_parameters=True,
        enable_cache=config.cluster.caching,
        beam_pipeline_args=make_beam_args(config.beam.profile, config.beam.args),
    )
    cluster = config.cluster
    images = {node.id: image for node in pipeline.components if (image := cluster.node(node.id).image or cluster.image)}
    runner_config = KubeflowV2DagRunnerConfig(default_image=images, use_pipeline_spec_2_1=True)
    job = KubeflowV2DagRunner(config=runner_config).run(pipeline, write_out=False)
    parameters = {"data": locations.data, "root": locations.root}
    if not config.search.trials:
        parameters["budget"] = json.dumps(config.search.parameter_budget)
    platform_spec = complete_spec(job["pipelineSpec"], cluster, runner, parameters)
    job["pipelineSpec"]["defaultPipelineRoot"] = locations.artifacts
    job["labels"] = job.get("labels", {}) | cluster.labels
    return CompiledPipeline(runner, job, platform_spec, parameters)
