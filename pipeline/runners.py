"""Runs the pipeline on this machine, or compiles it for Vertex and open-source Kubeflow."""

import os

from tfx.orchestration import metadata
from tfx.orchestration.local.local_dag_runner import LocalDagRunner

from pipeline.beam_options import make_beam_args
from pipeline.config import PipelineConfig
from pipeline.dag import Locations, create_pipeline
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


def compile_pipeline(config: PipelineConfig, locations: Locations, runner: str, output: str) -> None:
    """Writes the pipeline as the JSON that Vertex AI ("vertex") or Kubeflow Pipelines v2 ("kubeflow") runs.

    Open-source Kubeflow cannot resolve earlier models: there the blessing has no baseline. Neither takes an InfraValidator,
    which v2 graphs do not support, whatever serving.infra_validation says.

    Raises:
        UserError: for flags unknown to Beam, or without those that the profile needs.
    """
    # Here, because it imports kfp and Google Cloud's clients, which a local run does not need.
    from tfx.orchestration.kubeflow.v2.kubeflow_v2_dag_runner import KubeflowV2DagRunner, KubeflowV2DagRunnerConfig

    pipeline = create_pipeline(
        config,
        locations,
        with_resolver=runner == "vertex",
        enable_cache=True,
        beam_pipeline_args=make_beam_args(config.beam.profile, config.beam.args),
    )
    runner_config = KubeflowV2DagRunnerConfig(use_pipeline_spec_2_1=True)
    directory, filename = os.path.split(os.path.abspath(output))
    KubeflowV2DagRunner(config=runner_config, output_dir=directory, output_filename=filename).run(pipeline)
