"""What every benchmark shares: cases in processes of their own, interleaved; medians; a table of figures; JSON."""

import argparse
import dataclasses
import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version

import rich.console
import rich.table

ROUNDS = 5
SEED = 0


@dataclasses.dataclass(frozen=True)
class Figure:
    """One line of the table: a measured number, what it must not exceed and what it should reach.

    `value` computes it from one round's results {case: {measurement: number}}, None where a benchmark gives the numbers to
    `conclude` itself; the table shows the median of all rounds and their range, or, where a round is a seed (`is_mean`),
    their mean and its standard error.
    """

    name: str
    must: float
    aim: float
    value: Callable[[Mapping[str, Mapping[str, float]]], float] | None = None
    is_mean: bool = False


def round_seed() -> int:
    """The number of the round that this process runs in, from 0: the seed of benchmarks whose rounds are seeds."""
    return int(os.environ.get("BENCHMARK_ROUND", "0"))


def main(file: str, title: str, cases: Mapping[str, Callable[[], dict[str, float]]], figures: Sequence[Figure]) -> int:
    """The command line of a benchmark; returns its exit status: 1 if a figure misses its must."""
    parser = argparse.ArgumentParser(description=title)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="rounds over all cases (default: %(default)s)")
    parser.add_argument("--output", help="JSON with all results (default: runs/benchmarks/NAME.json)")
    parser.add_argument("--case", choices=sorted(cases), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.case:
        sys.stdout.write("\n" + json.dumps(cases[arguments.case]()) + "\n")
        return 0

    console = rich.console.Console(highlight=False, soft_wrap=True)
    machine = describe_machine(seed=SEED, rounds=arguments.rounds)
    console.print(title)
    console.print(", ".join(f"{key} {value}" for key, value in machine.items()))
    rounds = []
    for index in range(arguments.rounds):
        rounds.append({case: _run_case(file, case, index) for case in cases})
        console.print(f"round {index + 1}: {json.dumps(rounds[-1])}", style="dim")
    measured = {figure.name: sorted(figure.value(results) for results in rounds) for figure in figures}

    name = os.path.splitext(os.path.basename(file))[0]
    output = arguments.output or os.path.join("runs", "benchmarks", f"{name}.json")
    write_json(output, {"title": title, "machine": machine, "figures": measured, "rounds": rounds})
    return conclude(console, figures, measured)


def conclude(console, figures: Sequence[Figure], measured: Mapping[str, Sequence[float]]) -> int:
    """Prints the table of figures and, last, how many musts hold; returns the exit status."""
    failed = _print_table(console, figures, measured)
    short = f"; short: {', '.join(failed)}" if failed else ""
    console.print(f"musts: {len(figures) - len(failed)} of {len(figures)} hold{short}")
    return 1 if failed else 0


def describe_machine(**settings) -> dict[str, object]:
    """What the numbers depend on: machine, `settings`, versions."""
    return {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        **settings,
        "python": platform.python_version(),
        **{name: version(name) for name in ("tensorflow", "keras", "numpy")},
    }


def write_json(path: str, results: Mapping[str, object]) -> None:
    """Writes `results` to `path`, its directory made where it is missing."""
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    with open(path, "w", encoding="utf-8") as stream:
        json.dump(results, stream, indent=2, sort_keys=True)


def _run_case(file: str, case: str, index: int) -> dict[str, float]:
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "BENCHMARK_ROUND": str(index)}
    command = [sys.executable, file, "--case", case]
    result = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if result.returncode:
        raise SystemExit(f"case {case} failed:\n{result.stderr[-3000:]}")
    return json.loads(result.stdout.splitlines()[-1])


def middle(figure: Figure, values: Sequence[float]) -> float:
    """The number that is held against the must."""
    return statistics.mean(values) if figure.is_mean else statistics.median(values)


def spread(figure: Figure, values: Sequence[float]) -> str:
    """The range of the values or, of a mean, its standard error."""
    if figure.is_mean and len(values) > 1:
        return f"se {statistics.stdev(values) / len(values) ** 0.5:.2g}"
    return f"{min(values):.3g} .. {max(values):.3g}"


def _print_table(console, figures: Sequence[Figure], measured: Mapping[str, Sequence[float]]) -> list[str]:
    table = rich.table.Table("figure")
    for heading in ("must", "aim", "measured", "spread"):
        table.add_column(heading, justify="right")
    failed = []
    for figure in figures:
        values = measured[figure.name]
        if middle(figure, values) > figure.must:
            failed.append(figure.name)
        limits = (f"<= {figure.must:.4g}", f"<= {figure.aim:.4g}")
        table.add_row(figure.name, *limits, f"{middle(figure, values):.3g}", spread(figure, values))
    console.print(table)
    return failed
