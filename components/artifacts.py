"""Artifact types of this package."""

from tfx.types import artifact


class SearchReport(artifact.Artifact):
    """What a dimension search left behind, a directory.

    `trajectory.jsonl`: one JSON object a check; `tensorboard/`: event files; `report.html`: one self-contained page.
    It has no PROPERTIES, which KubeflowV2 could not compile; `parameters` and `uniform_parameters` are custom properties.
    """

    # KubeflowV2 imports the type from the package named before the one dot.
    TYPE_NAME = "components.SearchReport"
