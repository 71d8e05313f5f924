"""A small pipeline run through the command line, shared by the tests that look at what it leaves behind."""

import csv
import dataclasses
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

COLUMNS = ["city name", "product/kind", "clicks", "price", "note", "bought"]
BUDGET = 0.25
WARMUP_RECORDS = 20
STORAGE = "int8"
# Long enough to be killed in its middle: a checkpoint is written at each look.
SETTINGS = {
    "batch_size": 64,
    "search.parameter_budget": BUDGET,
    "search.settings.epochs": 20,
    "search.settings.patience_looks": 24,
    "training.max_epochs": 5,
    "model.hidden_units": "[16]",
    "model.adapter_width": 16,
    # The same wherever the tests run, with Docker or without.
    "serving.infra_validation": "off",
    "serving.warmup_records": WARMUP_RECORDS,
    "serving.storage": STORAGE,
}


@dataclasses.dataclass(frozen=True)
class SmallRun:
    """Paths and outputs of an interrupted run, the same run again, and a third with nothing left to do."""

    config: Path
    root: Path
    data: Path
    killed: subprocess.CompletedProcess
    checkpoints_at_kill: list[Path]
    resumed: subprocess.CompletedProcess
    repeated: subprocess.CompletedProcess

    @property
    def summary(self) -> dict:
        return json.loads(self.resumed.stdout)

    def read_logs(self) -> list[str]:
        return [file.read_text(errors="replace") for file in sorted((self.root / "logs").iterdir())]


def write_rows(path: Path, num_rows: int = 2500) -> None:
    rng = random.Random(0)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for index in range(num_rows):
            city, kind, clicks = rng.randrange(20), rng.choice(["book", "toy", "food"]), int(rng.expovariate(0.1))
            price = "" if rng.random() < 0.1 else f"{rng.uniform(1, 50):.2f}"
            is_bought = rng.random() < 0.15 + 0.5 * (city % 3 == 0) + 0.25 * (kind == "toy")
            city_name = "" if rng.random() < 0.05 else f"city {city}"
            writer.writerow([city_name, kind, clicks, price, f"note {index}", "yes" if is_bought else "no"])


def run_command(module: str, *arguments, directory: Path, **options) -> subprocess.CompletedProcess:
    """`python -m MODULE ARGUMENTS` in a fresh process."""
    command = [sys.executable, "-m", module, *map(str, arguments)]
    return subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False, **options)


def make_small_run(directory: Path) -> SmallRun:
    data, config, root = directory / "rows.csv", directory / "shop.yaml", directory / "root"
    write_rows(data)
    run_command("pipeline", "init", "--csv", data, "--label", "bought", "--output", config, directory=directory)
    arguments = ["run", "--config", str(config), "--root", str(root)]
    for key, value in SETTINGS.items():
        arguments += ["--set", f"{key}={value}"]

    killed = _kill_during_search([sys.executable, "-m", "pipeline", *arguments], root, directory)
    checkpoints = list((root / "checkpoints").glob("*/search.npz"))
    resumed = run_command("pipeline", *arguments, "--json", directory=directory)
    repeated = run_command("pipeline", *arguments, directory=directory)
    return SmallRun(config, root, data, killed, checkpoints, resumed, repeated)


def _kill_during_search(command: list[str], root: Path, directory: Path) -> subprocess.CompletedProcess:
    with (directory / "killed.log").open("w+") as log:
        process = subprocess.Popen(command, cwd=directory, stdout=log, stderr=subprocess.STDOUT)
        deadline = time.monotonic() + 240
        while process.poll() is None and time.monotonic() < deadline:
            if list((root / "checkpoints").glob("*/search.npz")):
                break
            time.sleep(0.02)
        process.kill()
        process.wait()
        log.seek(0)
        return subprocess.CompletedProcess(command, process.returncode, log.read())


PREDICT_WITHOUT_OUR_CODE = """
import json, sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("keras_dimgrow", "components", "pipeline", "tfx", "tensorflow_transform"):
            raise ImportError(name + " is blocked")
sys.meta_path.insert(0, Blocker())
from serving.check import predict_rows
print(json.dumps(predict_rows(sys.argv[1], json.loads(sys.argv[2]))))
"""


def predict_in_other_process(saved_model: str, rows: list[dict], directory: Path) -> list[float]:
    """What the SavedModel says in a process that cannot import the code it was made with."""
    command = [sys.executable, "-c", PREDICT_WITHOUT_OUR_CODE, saved_model, json.dumps(rows)]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    result = subprocess.run(command, cwd=directory, capture_output=True, text=True, env=environment, check=False)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.splitlines()[-1])
