"""Artifact types of this package."""

from tfx.types import artifact


class SearchReport(artifact.Artifact):
    """What a dimension search left behind, a directory.

    `trajectory.jsonl`: one JSON object a check; `race.jsonl`: one a round and plan of the race, if there was one;
    `tensorboard/`: event files; `report.html`: one self-contained page; `outcome.json`: what was found, in a few numbers;
    `trials.json`: the same of all trials, if the plan is one of several. It has no PROPERTIES, which KubeflowV2 could not
    compile; the numbers `parameters` and `uniform_parameters` and the texts `method`, `parameter_budget` (JSON) and `note`
    (what the user should know, empty for nothing) are custom properties.
    """

    # KubeflowV2 imports the type from the package named before the one dot.
    TYPE_NAME = "components.SearchReport"
