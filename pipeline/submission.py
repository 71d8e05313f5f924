"""`submit`: a compiled pipeline, checked and handed to the cluster, or shown as it would be."""

from typing import Any

from pipeline.config import PipelineConfig
from pipeline.errors import UserError
from pipeline.runners import CompiledPipeline


def submit(config: PipelineConfig, compiled: CompiledPipeline) -> str:
    """Starts a run; returns the address of the page that shows it.

    Credentials are those of the environment; see `pipeline.vertex` and `pipeline.kubeflow`.

    Raises:
        UserError: as `describe_submission`; if the cluster cannot be reached, or refuses.
    """
    check_submission(config, compiled)
    if compiled.runner == "vertex":
        from pipeline import vertex

        return vertex.send(vertex.make_request(config, compiled))
    from pipeline import kubeflow

    return kubeflow.send(kubeflow.make_submission(config, compiled), compiled)


def describe_submission(config: PipelineConfig, compiled: CompiledPipeline) -> dict[str, Any]:
    """What `submit` would send, as JSON; needs neither credentials nor a network.

    Raises:
        UserError: if the run could only fail: without an image, or with paths that the cluster cannot reach.
    """
    check_submission(config, compiled)
    if compiled.runner == "vertex":
        from pipeline import vertex

        return vertex.describe(vertex.make_request(config, compiled))
    from pipeline import kubeflow

    return kubeflow.make_submission(config, compiled)


def check_submission(config: PipelineConfig, compiled: CompiledPipeline) -> None:
    """Raises UserError for what the cluster could only fail on: nodes without image, paths that it cannot reach."""
    executors = compiled.job["pipelineSpec"]["deploymentSpec"]["executors"]
    nodes = [name.removesuffix("_executor") for name, executor in sorted(executors.items()) if "container" in executor]
    missing = [name for name in nodes if not (config.cluster.node(name).image or config.cluster.image)]
    if missing:
        raise UserError(
            f"cluster.image is missing: {', '.join(missing)} would run in an image without this package. Build one "
            "(`make image IMAGE=REGISTRY/NAME:TAG`), push it, and name it: --set cluster.image=REGISTRY/NAME:TAG."
        )
    for name, cure in (("root", "--root or cluster.root"), ("data", "--data or data.path")):
        value = compiled.parameters[name]
        if not value.startswith("gs://"):
            raise UserError(
                f"{name} is {value!r}, which the cluster's nodes cannot reach: of remote paths TensorFlow, Beam and "
                f"{compiled.runner} all know gs://BUCKET/PATH only. Give it by {cure}."
            )
