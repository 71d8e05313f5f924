"""What TFX's compiler leaves out of a PipelineSpec: the nodes' resources, retries, caching, selectors; parameters' defaults.

TFX writes the resources of some nodes only (not ExampleGen's), and none of the rest; so all of it is added to what it made.
"""

from typing import Any

from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2

from pipeline.cluster_config import ClusterConfig, NodeConfig, parse_bytes
from pipeline.config_values import did_you_mean
from pipeline.errors import UserError

_ResourceSpec = pipeline_spec_pb2.PipelineDeploymentConfig.PipelineContainerSpec.ResourceSpec
_INSTANCE_TYPE = "node.kubernetes.io/instance-type"  # Kubernetes' well-known label

_VERTEX_LACKS = {
    "machine_type": "Vertex AI Pipelines chooses the machine by cpu, memory and accelerator: give those",
    "disk": "the disk of a Vertex AI Pipelines step cannot be set; files that grow with the data lie in the bucket anyway",
    "node_selector": "Vertex AI Pipelines has no nodes to select: give accelerator for a GPU, and cluster.region",
}


def complete_spec(spec: dict[str, Any], config: ClusterConfig, runner: str, defaults: dict[str, str]) -> dict[str, Any]:
    """Adds to `spec` what `config` says of each node, and the parameters' defaults.

    Args:
        spec: a PipelineSpec as JSON; changed in place.
        config: the section `cluster`.
        runner: "vertex" or "kubeflow".
        defaults: of each parameter that the pipeline has.

    Returns:
        The PlatformSpec as JSON: what only Kubernetes knows of, such as node selectors; empty if there is nothing of it.

    Raises:
        UserError: for a node that the pipeline does not have, or a setting that the runner has no way to express.
    """
    tasks = spec["root"]["dag"]["tasks"]
    executors = spec["deploymentSpec"]["executors"]
    labels = {name: spec["components"][task["componentRef"]["name"]]["executorLabel"] for name, task in tasks.items()}
    nodes = [name for name in sorted(tasks) if "container" in executors[labels[name]]]
    for name in config.nodes:
        if name not in nodes:
            raise UserError(
                f"cluster.nodes.{name}: the pipeline has no such node.{did_you_mean(name, nodes)} Nodes: {', '.join(nodes)}."
            )
    platform: dict[str, Any] = {}
    for name in nodes:
        node = config.node(name)
        place = f"cluster.nodes.{name}" if name in config.nodes else "cluster.defaults"
        resources = _make_resources(node, runner, place)
        if resources:
            executors[labels[name]]["container"]["resources"] = resources
        if node.retries:
            tasks[name]["retryPolicy"] = {"maxRetryCount": node.retries}
        # Only Vertex runs the driver that looks whether files changed: elsewhere the cache would take those of another day.
        is_blind = runner == "kubeflow" and "lifecycle" in executors[labels[name]]["container"]
        is_cached = config.caching and not is_blind if node.caching is None else node.caching
        tasks[name]["cachingOptions"] = {"enableCache": True} if is_cached else {}
        if runner == "kubeflow" and (options := _make_pod_options(node, config.labels)):
            platform[labels[name]] = options
    for name, value in defaults.items():
        spec["root"]["inputDefinitions"]["parameters"][name]["defaultValue"] = value
    return {"platforms": {"kubernetes": {"deploymentSpec": {"executors": platform}}}} if platform else {}


def _make_resources(node: NodeConfig, runner: str, place: str) -> dict[str, Any]:
    if runner == "vertex":
        for key, reason in _VERTEX_LACKS.items():
            if getattr(node, key):
                raise UserError(f"{place}.{key}={getattr(node, key)!r}: {reason}. Remove it, or set it to null.")
    # Old and new fields, as kfp's compiler does: Vertex and older Kubeflow read the first, newer Kubeflow the second.
    resources = _ResourceSpec()
    if node.cpu is not None:
        resources.cpu_limit, resources.resource_cpu_limit = node.cpu, f"{node.cpu:g}"
    if node.memory is not None:
        resources.memory_limit, resources.resource_memory_limit = parse_bytes(node.memory) / 10**9, node.memory
    if node.accelerator is not None:
        _check_accelerator(node.accelerator, runner, f"{place}.accelerator")
        accelerator = resources.accelerator
        accelerator.type = accelerator.resource_type = node.accelerator
        accelerator.count, accelerator.resource_count = node.accelerator_count, str(node.accelerator_count)
    return json_format.MessageToDict(resources)


def _check_accelerator(accelerator: str, runner: str, place: str) -> None:
    if runner == "kubeflow":
        if "/" not in accelerator:
            raise UserError(
                f"{place}={accelerator!r}: Kubeflow asks for a resource of the cluster, such as nvidia.com/gpu. Which model it "
                "is, say with node_selector, such as {cloud.google.com/gke-accelerator: nvidia-tesla-t4}."
            )
        return
    # Here, because Google Cloud's clients take seconds to import.
    from google.cloud.aiplatform_v1.types import AcceleratorType

    known = [name for name in AcceleratorType.__members__ if name != "ACCELERATOR_TYPE_UNSPECIFIED"]
    if accelerator not in known:
        hint = did_you_mean(accelerator.upper().replace("-", "_"), known)
        raise UserError(f"{place}={accelerator!r}: unknown to Vertex AI.{hint} Known: {', '.join(known)}.")


def _make_pod_options(node: NodeConfig, labels: Any) -> dict[str, Any]:
    """A KubernetesExecutorConfig, as kfp-kubernetes writes it."""
    options: dict[str, Any] = {}
    selector = dict(node.node_selector)
    if node.machine_type is not None:
        selector[_INSTANCE_TYPE] = node.machine_type
    if selector:
        options["nodeSelector"] = {"labels": selector}
    if node.accelerator is not None:
        # Machines with GPUs keep pods away that do not say that they want one.
        options["tolerations"] = [{"key": node.accelerator, "operator": "Exists", "effect": "NoSchedule"}]
    if node.disk is not None:
        options["emptyDirMounts"] = [{"volumeName": "tmp", "mountPath": "/tmp", "sizeLimit": node.disk}]
    if labels:
        options["podMetadata"] = {"labels": dict(labels)}
    return options
