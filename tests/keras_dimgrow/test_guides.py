"""The python blocks of each guide are one program that runs (tfrs.md has a test of its own)."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# None beside the built wheel's tests.
GUIDES = sorted(path for path in (ROOT / "docs/guides").glob("*.md") if path.name != "tfrs.md")
SLOW = ("continuous", "resume", "rows", "several_gpus")  # own_model stands for them in `make test`


@pytest.mark.parametrize(
    "guide", [pytest.param(path, id=path.stem, marks=[pytest.mark.slow] * (path.stem in SLOW)) for path in GUIDES]
)
def test_the_blocks_of_a_guide_are_one_program_that_runs(guide, tmp_path):
    blocks = re.findall(r"^```python\n(.*?)^```$", guide.read_text(), flags=re.MULTILINE | re.DOTALL)
    program = tmp_path / f"{guide.stem}.py"
    program.write_text("\n\n".join(blocks))

    finished = subprocess.run(
        [sys.executable, program.name],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert blocks
    assert finished.returncode == 0, finished.stderr
