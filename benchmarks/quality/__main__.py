"""The command line: `python -m benchmarks.quality --data planted --methods dimgrow --output runs/quality/planted`."""

import argparse
import dataclasses
import logging
import os
import sys

import rich.console

import keras_dimgrow as kd
from benchmarks.harness import conclude, describe_machine, middle, write_json
from benchmarks.quality.cases import Laboratory
from benchmarks.quality.data import Data
from benchmarks.quality.musts import measure
from benchmarks.quality.page import write_page
from benchmarks.quality.results import write_results
from benchmarks.quality.runner import Schedule, add_rules, run
from benchmarks.quality.sources import PLANTED_ROWS, load_data
from benchmarks.quality.specs import MethodSpec, parse_budgets, parse_methods
from benchmarks.quality.store import Store
from benchmarks.quality.tables import make_tables, print_tables
from benchmarks.quality.transfer import SOURCE, make_transfer_table, run_transfer
from keras_dimgrow.models.build import BACKBONES
from pipeline.errors import UserError

SUBJECT = "dimgrow"
CONSOLE_WIDTH = 180


def main(arguments: list[str] | None = None) -> int:
    """Runs a comparison; returns 1 if a must falls short, 2 if something that was asked for cannot be."""
    options = _parse(arguments)
    # Each case has models of its own: that their functions are traced anew is meant.
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    console = rich.console.Console(highlight=False, soft_wrap=True, width=CONSOLE_WIDTH)
    try:
        specs, missing = add_rules(parse_methods(options.methods))
        schedule = Schedule(parse_budgets(options.budgets), options.seeds, options.retrain_seeds)
        data = load_data(options.data, num_rows=options.rows, teacher=options.teacher, taxi_csv=options.taxi_csv)
        laboratory = _furnish(options, data, console)
    except (ValueError, UserError) as error:
        console.print(f"error: {error}", style="red", markup=False)
        return 2
    about = _describe(options, laboratory)
    console.print(f"Search quality on {data.name}")
    console.print(", ".join(f"{key} {value}" for key, value in about["machine"].items()))
    for name in missing:
        console.print(f"{name}: skipped, this version of keras_dimgrow has no such method", style="yellow")
    try:
        if options.transfer:
            return _compare_transfer(options, laboratory, specs, schedule, about, console)
        return _compare(options, laboratory, specs, schedule, about, console)
    except KeyboardInterrupt:
        console.print("interrupted: the same command goes on where this one stopped", style="yellow")
        return 130


def _compare(options, laboratory: Laboratory, specs: list[MethodSpec], schedule: Schedule, about, console) -> int:
    data = laboratory.data
    results = run(laboratory, specs, schedule)
    measured = measure(results, options.subject, data.name, data.truth)
    values = {figure.name: numbers for figure, numbers in measured}
    limits = {
        figure.name: {"must": figure.must, "aim": figure.aim, "measured": middle(figure, numbers), "values": numbers}
        for figure, numbers in measured
    }
    tables = make_tables(results)
    write_results(options.output, results, about, limits)
    write_page(os.path.join(options.output, "index.html"), results, tables, measured, about)
    print_tables(console, tables)
    console.print(f"figures of {options.subject}")
    return conclude(console, [figure for figure, _ in measured], values)


def _compare_transfer(
    options, laboratory: Laboratory, specs: list[MethodSpec], schedule: Schedule, about, console
) -> int:
    transferred = run_transfer(laboratory, specs, schedule)
    write_json(
        os.path.join(options.output, "transfer.json"),
        {**about, "transferred": [dataclasses.asdict(each) for each in transferred]},
    )
    print_tables(console, [make_transfer_table(transferred)])
    return 0


def _furnish(options, data: Data, console) -> Laboratory:
    """The laboratory with the options' settings, the library's defaults where there is none."""
    training = {"learning_rate": options.learning_rate, "max_epochs": options.max_epochs}
    model = {"backbone": SOURCE if options.transfer else options.backbone, "adapter_width": options.adapter_width}
    return Laboratory(
        data=data,
        store=Store(os.path.join(options.output, "cases")),
        batch_size=options.batch_size or kd.choose_batch_size(data.num_rows("train")),
        training=kd.TrainingConfig(**{key: value for key, value in training.items() if value is not None}),
        model=kd.ModelConfig(**{key: value for key, value in model.items() if value is not None}),
        report=lambda line: console.print(line, style="dim", markup=False),
    )


def _describe(options, laboratory: Laboratory) -> dict:
    """What the numbers depend on."""
    data = laboratory.data
    settings = {"data": data.name, "batch_size": laboratory.batch_size, "backbone": laboratory.model.backbone}
    return {
        "data": data.name,
        "fingerprint": data.fingerprint,
        "num_rows": {split: data.num_rows(split) for split in data.ids},
        "arguments": {key: value for key, value in vars(options).items() if key not in ("output", "taxi_csv")},
        "training": laboratory.training.to_dict(),
        "model": laboratory.model.to_dict(),
        "machine": describe_machine(seeds=options.seeds, retrain_seeds=options.retrain_seeds, **settings),
    }


def _parse(arguments: list[str] | None):
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality", description="Search methods, compared")
    add = parser.add_argument
    add("--data", required=True, help="planted, planted39, adult, taxi or an .npz file (see benchmarks/quality/npz.py)")
    add("--methods", default=SUBJECT, help="names, with settings as name:key=value;key=value (default: %(default)s)")
    add("--budgets", default="0.05,0.1,0.2,0.5", help="shares of uniform 16's parameters (default: %(default)s)")
    add("--seeds", type=_positive, default=3, help="searches of each method and budget (default: %(default)s)")
    add("--retrain-seeds", type=_positive, default=2, help="trainings of each plan found (default: %(default)s)")
    add("--backbone", choices=sorted(BACKBONES), default="wide_deep", help="(default: %(default)s)")
    add("--transfer", action="store_true", help="instead: plans found with fm, trained with nfm, ipnn and autoint")
    add("--output", required=True, help="directory of the results; a second run goes on there")
    add("--subject", default=SUBJECT, help="the method that the figures are about (default: %(default)s)")
    add("--teacher", type=int, default=0, help="which teacher made planted data's labels (default: %(default)s)")
    rows = ", ".join(f"{name} {number:,}" for name, number in PLANTED_ROWS.items())
    add("--rows", type=_positive, help=f"rows of planted data (default: {rows})")
    add("--taxi-csv", help="data.csv of TFX's Chicago taxi example")
    add("--batch-size", type=_positive, help="(default: 256, 1024 or 2048, by the number of training rows)")
    add("--learning-rate", type=float, help="of trainings (default: the library's)")
    add("--max-epochs", type=_positive, help="of trainings (default: the library's)")
    add("--adapter-width", type=_positive, help="of the model (default: the library's)")
    return parser.parse_args(arguments)


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1; received {text}")
    return value


if __name__ == "__main__":
    sys.exit(main())
