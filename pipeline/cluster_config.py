"""The section `cluster` of a configuration: how Vertex AI and Kubeflow Pipelines run the pipeline, and on what machines."""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any, ClassVar

from pipeline.config_values import Section
from pipeline.errors import UserError

_UNITS = {"K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}
_LABEL = re.compile(r"[a-z0-9]([a-z0-9_-]{0,61}[a-z0-9])?")  # what both Google Cloud and Kubernetes take


@dataclasses.dataclass(frozen=True, kw_only=True)
class NodeConfig(Section):
    """What one node runs on; whatever is null is left to the runner.

    Args:
        image: an image of its own, such as the one with the CUDA libraries; null: cluster.image.
        cpu: cores.
        memory: with a unit, such as 16Gi (or 16G, 10**9 bytes).
        accelerator: for Vertex its type, such as NVIDIA_TESLA_T4; for Kubeflow the resource, such as nvidia.com/gpu.
        accelerator_count: how many of it.
        machine_type: such as n1-highmem-8; Kubeflow only (Vertex chooses by cpu, memory and accelerator).
        disk: the most that files in /tmp may take, with a unit; Kubeflow only.
        node_selector: labels that the machine must have; Kubeflow only.
        retries: how often it is started again after it failed.
        caching: whether outputs of an earlier run with the same inputs are taken; null: cluster.caching, but false for
            ExampleGen on Kubeflow, which would not see that files changed.
    """

    section: ClassVar[str] = "cluster.nodes.*"

    image: str | None = None
    cpu: float | None = None
    memory: str | None = None
    accelerator: str | None = None
    accelerator_count: int = 1
    machine_type: str | None = None
    disk: str | None = None
    node_selector: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    retries: int | None = None
    caching: bool | None = None

    def _validate(self) -> None:
        self._require("cpu", self.cpu is None or self.cpu > 0, "> 0")
        self._require("accelerator_count", self.accelerator_count >= 1, ">= 1")
        self._require("retries", self.retries is None or self.retries >= 0, ">= 0")
        for name in ("memory", "disk"):
            value = getattr(self, name)
            self._require(name, value is None or bool(parse_bytes(value)), "a size with a unit, such as 16Gi")
        for key, value in self.node_selector.items():
            if not isinstance(value, str):
                raise UserError(f'{self._key("node_selector")}: labels are texts: write {key}: "{value}".')


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClusterConfig(Section):
    """How the compiled pipeline runs; a run on this machine does not look at it.

    Args:
        image: reference of the container image of all nodes (`make image IMAGE=...`), with a tag or digest.
        root: where everything is written, gs://BUCKET/PATH; --root overrides it.
        service_account: as whom the nodes run: an e-mail address for Vertex, a Kubernetes name for Kubeflow.
        labels: of the job (Vertex) or of the pods (Kubeflow).
        caching: whether nodes take outputs of an earlier run with the same inputs.
        defaults: what nodes run on that say nothing of their own; a mapping as `nodes` has it for each.
        nodes: what each runs on, by its name in the graph, such as DimSearch; see `NodeConfig`.
        project: Vertex's, the Google Cloud project; null: that of the credentials (GOOGLE_CLOUD_PROJECT).
        region: Vertex's, such as europe-west4.
        network: Vertex's: projects/NUMBER/global/networks/NAME, which the nodes are peered with.
        host: address of Kubeflow Pipelines, such as https://kubeflow.example.com; null: as kfp.Client finds it
            (KF_PIPELINES_ENDPOINT).
        namespace: Kubeflow's, where it has several users.
        experiment: Kubeflow's: runs are listed under it; null: the pipeline's name.
    """

    section: ClassVar[str] = "cluster"

    image: str | None = None
    root: str | None = None
    service_account: str | None = None
    labels: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    caching: bool = True
    defaults: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    nodes: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    project: str | None = None
    region: str | None = None
    network: str | None = None
    host: str | None = None
    namespace: str | None = None
    experiment: str | None = None

    def node(self, name: str) -> NodeConfig:
        """What the node `name` runs on, from its own mapping over the defaults."""
        return NodeConfig.from_dict({**self.defaults, **self.nodes.get(name, {})})

    def _validate(self) -> None:
        is_reference = self.image is None or re.fullmatch(r"[^\s:]\S*", self.image) is not None
        self._require(
            "image", is_reference, "an image reference such as REGION-docker.pkg.dev/PROJECT/REPOSITORY/NAME:TAG"
        )
        for key, value in self.labels.items():
            if not (_LABEL.fullmatch(key) and isinstance(value, str) and _LABEL.fullmatch(value)):
                rule = (
                    "at most 63 lower case letters, digits, hyphens and underscores, a letter or digit first and last"
                )
                raise UserError(f"cluster.labels: names and values must be {rule}; received {key!r}: {value!r}.")
        places = {"cluster.defaults": {}} | {f"cluster.nodes.{name}": own for name, own in self.nodes.items()}
        for place, own in places.items():
            if not isinstance(own, Mapping):
                raise UserError(f"{place} must be a mapping such as {{cpu: 8, memory: 32Gi}}; received {own!r}.")
            try:
                NodeConfig.from_dict({**self.defaults, **own})
            except UserError as error:
                raise UserError(str(error).replace(NodeConfig.section, place)) from error


def parse_bytes(size: str) -> int:
    """Bytes of a size such as 16Gi or 200G; 0 if it is none."""
    match = re.fullmatch(r"(\d+)([KMGT]i?)", size)
    return int(match[1]) * _UNITS[match[2]] if match else 0
