"""docs/guides/tfrs.md runs as it stands."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

GUIDE = Path(__file__).parents[2] / "docs/guides/tfrs.md"


@pytest.mark.slow
def test_the_blocks_of_the_guide_are_one_program_that_runs(tmp_path):
    blocks = re.findall(r"^```python\n(.*?)^```$", GUIDE.read_text(), flags=re.MULTILINE | re.DOTALL)
    environment = {key: value for key, value in os.environ.items() if key != "TF_USE_LEGACY_KERAS"}
    environment["PYTHONPATH"] = str(GUIDE.parents[2])

    finished = subprocess.run(
        [sys.executable, "-c", "\n\n".join(blocks)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )

    assert len(blocks) == 5
    assert finished.returncode == 0, finished.stderr
    assert (tmp_path / "exported/ranking/saved_model.pb").exists()
    assert (tmp_path / "exported/index/saved_model.pb").exists()
