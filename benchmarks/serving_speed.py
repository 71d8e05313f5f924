"""A served model: latency, bytes and loading of a plan of 20% against uniform 16; and a server under load.

Criteo profile: 39 fields, 1M rows in all, Zipf ids, int64 ids in (the vocabularies of a Transform graph would cost each model
the same). `python benchmarks/serving_speed.py`: about 3 minutes on 2 cores; the server alone, `--server`: 3 minutes.

Models (serving_models.py): a plan of 20% (no field removed) with tables in float32, float16 and int8; uniform 16, exported
the same way; uniform 16 with one Embedding a field, as people write it.

Each model is loaded and run by TensorFlow's C++ Session, as in TF Serving (native_session.py), in a process of its own
(serving_worker.py): in Python, naming 39 feeds takes 0.6 ms a call, which would hide what differs.

- Latency: all processes live; they take turns, a short block of calls each, so that other work on the machine slows all
  alike. A round is a turn of each; figures are ratios within a round.
- First answer: from the call that loads to the answer for one row, files in the page cache, in a process that has loaded and
  run another model before, as a server has that changes versions; and, without a must, in one that has not ("cold").

Not called serving.py: benchmarks run with this folder first on their path, and it would hide the package `serving`.
"""

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator

import rich.console
import rich.table
from harness import Figure, conclude, describe_machine, write_json

NAMES = ("plan_float32", "plan_float16", "plan_int8", "uniform_fused", "uniform_separate")
LOADED_NAMES = ("plan_float32", "plan_int8", "uniform_fused", "uniform_separate")
NUM_CALLS = {512: 40, 32: 150, 1: 250}  # of one turn: 10 to 100 ms
PLAN, FUSED, SEPARATE = "plan_float32", "uniform_fused", "uniform_separate"
FIRST = "first_answer_ms"
FOLDER = os.path.dirname(os.path.abspath(__file__))

LATENCY = {512: (0.70, 0.50), 32: (0.95, 0.80), 1: (1.05, 0.95)}
FIGURES = [
    *(Figure(f"p50, B={size}: plan / fused uniform 16", *limits) for size, limits in LATENCY.items()),
    Figure("p50, B=512: plan / separate uniform 16", 0.6, 0.4),
    Figure("bytes: plan / uniform 16", 0.25, 0.22),
    Figure("bytes: plan in int8 / uniform 16", 0.08, 0.072),
    Figure("first answer: plan / fused uniform 16", 0.6, 0.3),
]


class Worker:
    """The process that serves one model."""

    def __init__(self, directory: str, name: str, start: str):
        command = [sys.executable, os.path.join(FOLDER, "serving_worker.py"), directory, name, start]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"},
        )
        self.loading = self._read()

    def time_calls(self, batch_size: int, num_calls: int) -> dict[str, float]:
        self._process.stdin.write(f"{batch_size} {num_calls}\n")
        self._process.stdin.flush()
        return self._read()

    def close(self) -> None:
        self._process.stdin.close()
        self._process.wait()

    def _read(self) -> dict[str, float]:
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"`{' '.join(self._process.args[1:])}` ended; run it to see why.")
        return json.loads(line)


@contextlib.contextmanager
def working(directory: str, name: str, start: str = "warm") -> Iterator[Worker]:
    worker = Worker(directory, name, start)
    try:
        yield worker
    finally:
        worker.close()


def measure_latency(directory: str, num_rounds: int) -> list[dict[str, dict[str, float]]]:
    """{model: {measurement: microseconds}} of each round; all models take turns at each batch size."""
    rounds = []
    with contextlib.ExitStack() as stack:
        workers = {name: stack.enter_context(working(directory, name)) for name in NAMES}
        for index in range(num_rounds + 1):
            results: dict[str, dict[str, float]] = {name: {} for name in NAMES}
            # Every other round backwards: no model always follows the same one.
            names = NAMES if index % 2 else NAMES[::-1]
            for batch_size, num_calls in NUM_CALLS.items():
                for name in names:
                    for key, value in workers[name].time_calls(batch_size, num_calls).items():
                        results[name][f"{key}_{batch_size}"] = value
            rounds.append(results)
    return rounds[1:]  # in the first one, tables come into memory


def measure_loading(directory: str, num_rounds: int) -> list[dict[str, dict[str, float]]]:
    """{model: {measurement: milliseconds}} of each round, a new process for each number."""
    rounds = []
    for _ in range(num_rounds):
        results: dict[str, dict[str, float]] = {name: {} for name in LOADED_NAMES}
        for start, suffix in (("warm", ""), ("cold", "_cold")):
            for name in LOADED_NAMES:
                with working(directory, name, start) as worker:
                    results[name] |= {f"{key}{suffix}": value for key, value in worker.loading.items()}
        rounds.append(results)
    return rounds


def count_bytes(path: str) -> float:
    return float(
        sum(os.path.getsize(os.path.join(folder, file)) for folder, _, files in os.walk(path) for file in files)
    )


def main() -> int:
    parser = argparse.ArgumentParser(description="Serving a plan of 20%, Criteo profile")
    parser.add_argument("--rounds", type=int, default=50, help="turns of each model in latency (default: %(default)s)")
    parser.add_argument("--loads", type=int, default=7, help="rounds of loading (default: %(default)s)")
    parser.add_argument(
        "--output",
        default=os.path.join("runs", "benchmarks", "serving_speed.json"),
        help="JSON with all results (default: %(default)s)",
    )
    arguments = parser.parse_args()
    console = rich.console.Console(highlight=False, soft_wrap=True)
    machine = describe_machine(seed=0, rounds=arguments.rounds, loads=arguments.loads)
    console.print("Serving a plan of 20%, Criteo profile")
    console.print(", ".join(f"{key} {value}" for key, value in machine.items()))
    with tempfile.TemporaryDirectory() as directory:
        exporter = os.path.join(FOLDER, "serving_models.py")
        subprocess.run([sys.executable, exporter, directory], check=True, stderr=subprocess.DEVNULL)
        num_bytes = {name: count_bytes(os.path.join(directory, name)) for name in NAMES}
        latency = measure_latency(directory, arguments.rounds)
        loading = measure_loading(directory, arguments.loads)

    def ratios(rounds, key: str, against: str) -> list[float]:
        return sorted(results[PLAN][key] / results[against][key] for results in rounds)

    values = [
        *(ratios(latency, f"p50_us_{size}", FUSED) for size in LATENCY),
        ratios(latency, "p50_us_512", SEPARATE),
        [num_bytes[PLAN] / num_bytes[FUSED]],
        [num_bytes["plan_int8"] / num_bytes[FUSED]],
        ratios(loading, FIRST, FUSED),
    ]
    measured = {figure.name: value for figure, value in zip(FIGURES, values, strict=True)}
    others = {
        **{
            f"CPU time, B={size}: plan / fused uniform 16": ratios(latency, f"cpu_us_{size}", FUSED) for size in LATENCY
        },
        "first answer: plan / separate uniform 16": ratios(loading, FIRST, SEPARATE),
        "first answer, CPU time: plan / fused uniform 16": ratios(loading, "first_answer_cpu_ms", FUSED),
        "first answer, cold: plan / fused uniform 16": ratios(loading, f"{FIRST}_cold", FUSED),
        "first answer, cold: plan / separate uniform 16": ratios(loading, f"{FIRST}_cold", SEPARATE),
    }
    write_json(
        arguments.output,
        {
            "machine": machine,
            "bytes": num_bytes,
            "figures": measured,
            "others": others,
            "latency": latency,
            "loading": loading,
        },
    )
    print_medians(console, latency, loading)
    table = rich.table.Table("without a must", "measured", "spread")
    for name, numbers in others.items():
        table.add_row(name, f"{statistics.median(numbers):.3g}", f"{numbers[0]:.3g} .. {numbers[-1]:.3g}")
    console.print(table)
    return conclude(console, FIGURES, measured)


def print_medians(console, latency, loading) -> None:
    """What each model took: medians of all rounds."""
    columns = [(latency, f"p50_us_{size}", f"p50 us, B={size}") for size in NUM_CALLS]
    columns += [(loading, FIRST, "first answer ms"), (loading, f"{FIRST}_cold", "cold ms")]
    table = rich.table.Table("model, medians", *[heading for _, _, heading in columns])
    for name in NAMES:
        values = [[results[name][key] for results in rounds if name in results] for rounds, key, _ in columns]
        table.add_row(name, *[f"{statistics.median(numbers):.3g}" if numbers else "" for numbers in values])
    console.print(table)


if __name__ == "__main__":
    if "--server" in sys.argv:
        import serving_load

        sys.argv.remove("--server")
        sys.exit(serving_load.main())
    sys.exit(main())
