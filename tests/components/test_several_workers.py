"""DimSearch by two workers, as Vertex AI starts them: the same command in each, told apart by TF_CONFIG alone."""

import json
from pathlib import Path

import pytest

from tests.components.conftest import read_json
from tests.keras_dimgrow.test_distribution import cluster_of_two, run


@pytest.mark.slow
def test_two_workers_find_what_one_process_finds_and_only_the_first_one_writes(transform_output, tmp_path):
    directory = str(Path(transform_output[0].uri).parent)
    module = "tests.components.search_run"
    for name in ("one", "two"):
        (tmp_path / name).mkdir()

    run([module, directory, str(tmp_path / "one" / "output")], tmp_path / "one")
    found = run([module, directory, str(tmp_path / "two" / "output")], tmp_path / "two", cluster_of_two())

    assert [worker["wrote"] for worker in found] == [True, False]
    outputs = (tmp_path / "two" / "output0", tmp_path / "one" / "output")
    plan, expected = (read_json(output / "best_hyperparameters" / "plan.json") for output in outputs)
    assert plan == expected
    lines = (outputs[0] / "search_report" / "trajectory.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [15, 30, 45, 60]
    assert found[0]["checkpoints"] == []
