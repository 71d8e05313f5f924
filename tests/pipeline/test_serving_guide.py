"""docs/serving.md tells the section `serving` of a configuration as it is."""

import dataclasses
import json
import pathlib
import re

from pipeline.serving_config import ServingConfig

GUIDE = pathlib.Path(__file__).parents[2] / "docs" / "serving.md"


def test_the_guide_has_every_setting_with_its_default():
    told = dict(re.findall(r"^\| `serving\.(\w+)` \| `?([^|`]+?)`? \|", GUIDE.read_text("utf-8"), re.M))
    defaults = {field.name: field.default for field in dataclasses.fields(ServingConfig)}
    assert told == {name: x if isinstance(x, str) else json.dumps(x) for name, x in defaults.items()}
