"""docs/serving.md: its commands are ones that there are, and what it says of files and settings is so."""

import pathlib
import re
import shlex

import pytest

from serving.configure import FILES

GUIDE = pathlib.Path(__file__).parents[2] / "docs" / "serving.md"
TEXT = GUIDE.read_text("utf-8")


def read_commands():
    blocks = "\n".join(re.findall(r"```bash\n(.*?)```", TEXT, re.S)).replace("\\\n", " ")
    return [line for line in blocks.splitlines() if line.startswith("python -m serving ")]


@pytest.mark.parametrize("command", read_commands())
def test_every_command_of_ours_is_one_that_is_taken(command):
    from serving.cli import _make_parser

    options = _make_parser().parse_args(shlex.split(command, comments=True)[3:])
    assert callable(options.command)


def test_the_commands_are_found():
    assert {command.split()[3] for command in read_commands()} >= {
        *("check", "versions", "predict", "local", "status", "metadata", "configure", "publish", "warmup", "rollback")
    }


def test_links_lead_to_files():
    targets = re.findall(r"\]\(([^)#:]+)\)", TEXT)
    assert targets
    for target in targets:
        assert (GUIDE.parent / target).exists(), target


def test_every_file_that_configure_writes_is_named():
    for name in FILES:
        assert f"`{name}`" in TEXT
