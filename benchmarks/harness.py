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

    `value` computes it from one round's results {case: {measurement: number}}; the table shows the median of all rounds.
    """

    name: str
    must: float
    aim: float
    value: Callable[[Mapping[str, Mapping[str, float]]], float]


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
    machine = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "seed": SEED,
        "rounds": arguments.rounds,
        "python": platform.python_version(),
        **{name: version(name) for name in ("tensorflow", "keras", "numpy")},
    }
    console.print(title)
    console.print(", ".join(f"{key} {value}" for key, value in machine.items()))
    rounds = []
    for index in range(arguments.rounds):
        rounds.append({case: _run_case(file, case) for case in cases})
        console.print(f"round {index + 1}: {json.dumps(rounds[-1])}", style="dim")
    measured = {figure.name: sorted(figure.value(results) for results in rounds) for figure in figures}
    failed = _print_table(console, figures, measured)

    name = os.path.splitext(os.path.basename(file))[0]
    output = arguments.output or os.path.join("runs", "benchmarks", f"{name}.json")
    os.makedirs(os.path.dirname(os.path.abspath(output)), exist_ok=True)
    with open(output, "w", encoding="utf-8") as stream:
        json.dump(
            {"title": title, "machine": machine, "figures": measured, "rounds": rounds},
            stream,
            indent=2,
            sort_keys=True,
        )
    short = f"; short: {', '.join(failed)}" if failed else ""
    console.print(f"musts: {len(figures) - len(failed)} of {len(figures)} hold{short}")
    return 1 if failed else 0


def _run_case(file: str, case: str) -> dict[str, float]:
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, file, "--case", case]
    result = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if result.returncode:
        raise SystemExit(f"case {case} failed:\n{result.stderr[-3000:]}")
    return json.loads(result.stdout.splitlines()[-1])


def _print_table(console, figures: Sequence[Figure], measured: Mapping[str, list[float]]) -> list[str]:
    table = rich.table.Table("figure")
    for heading in ("must", "aim", "measured", "spread"):
        table.add_column(heading, justify="right")
    failed = []
    for figure in figures:
        values = measured[figure.name]
        median = statistics.median(values)
        if median > figure.must:
            failed.append(figure.name)
        spread = f"{values[0]:.3g} .. {values[-1]:.3g}"
        table.add_row(figure.name, f"<= {figure.must:g}", f"<= {figure.aim:g}", f"{median:.3g}", spread)
    console.print(table)
    return failed
