"""docs/deploy.md tells the section `cluster` of a configuration, and the commands, as they are."""

import dataclasses
import json
import pathlib
import re
import shlex

from pipeline.cli import _parser
from pipeline.cluster_config import ClusterConfig, NodeConfig
from pipeline.config_values import parse_yaml

GUIDE = (pathlib.Path(__file__).parents[2] / "docs" / "deploy.md").read_text("utf-8")


def test_the_guide_has_every_setting_with_its_default():
    told = dict(re.findall(r"^\| `cluster\.(\w+)` \| `([^`]+)` \|", GUIDE, re.M))
    assert told == {name: json.dumps(value) for name, value in ClusterConfig().to_dict().items()}


def test_the_guide_tells_of_each_setting_of_a_node_what_each_runner_makes_of_it():
    rows = re.findall(r"^\| (`\w+`(?:, `\w+`)*) \| ([^|]+) \| ([^|]+) \|$", GUIDE.partition("for each node:")[2], re.M)
    told = {name for names, *_ in rows for name in re.findall(r"\w+", names)}
    assert {field.name for field in dataclasses.fields(NodeConfig)} <= told


def test_the_settings_that_the_guide_shows_are_accepted():
    (text,) = re.findall(r"```yaml\n(cluster:.*?)```", GUIDE, re.S)
    config = ClusterConfig.from_dict(parse_yaml(text)["cluster"])
    assert config.node("DimSearch").accelerator == "NVIDIA_TESLA_T4"
    assert config.node("Pusher").retries == 1


def test_the_commands_exist_as_written():
    commands = re.findall(r"^python -m pipeline (.*)$", GUIDE, re.M)
    assert len(commands) > 4
    for command in commands:
        assert callable(_parser().parse_args(shlex.split(command)).command)
