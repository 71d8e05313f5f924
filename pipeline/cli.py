"""The command line: python -m pipeline run | init | compile | submit | doctor | planted."""

import argparse
import datetime
import json
import os
import sys
import traceback
from collections.abc import Sequence

import rich.console
import rich.markup
import rich.table

from pipeline.config import PipelineConfig, load_config
from pipeline.errors import UserError

EXIT_OK, EXIT_FAILED, EXIT_USER_ERROR, EXIT_INTERRUPTED = 0, 1, 2, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns its exit code: 0 done, 1 a bug or a broken environment, 2 a mistake the user can cure."""
    arguments = _parser().parse_args(argv)
    # Before TensorFlow is imported: its log level, and the Keras 2 that TensorFlow Transform needs beside Keras 3.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
    try:
        return arguments.command(arguments)
    except KeyboardInterrupt:
        print("\ninterrupted: finished nodes are kept; the same command goes on from here", file=sys.stderr)  # noqa: T201
        return EXIT_INTERRUPTED
    except Exception as error:
        if arguments.debug:
            traceback.print_exc()
        is_curable = isinstance(error, UserError | ValueError)
        name = "" if is_curable else f"{type(error).__name__}: "
        print(f"error: {name}{error}", file=sys.stderr)  # noqa: T201
        if not is_curable:
            print("Run again with --debug to see where.", file=sys.stderr)  # noqa: T201
        return EXIT_USER_ERROR if is_curable else EXIT_FAILED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pipeline",
        description="Finds the embedding dimension of every field of your data, trains and exports the model.",
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    def add(name: str, command, help: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=help, description=help)
        sub.add_argument("--debug", action="store_true", help="show the stack trace of an error")
        sub.set_defaults(command=command)
        return sub

    def add_config(sub: argparse.ArgumentParser) -> None:
        sub.add_argument("--config", required=True, metavar="C", help="adult, taxi, criteo, avazu, or a YAML file")
        sub.add_argument("--data", metavar="PATH", help="your data; overrides data.path of the configuration")
        sub.add_argument(
            "--root", metavar="DIR", help="where everything is written (default: runs/NAME; on a cluster cluster.root)"
        )
        sub.add_argument(
            "--set", dest="overrides", action="append", default=[], metavar="A.B=VALUE", help="overrides one setting"
        )

    run = add("run", _run, "Runs the whole pipeline on this machine, or goes on with an interrupted run.")
    add_config(run)
    run.add_argument("--json", action="store_true", help="print the results as one JSON object")

    compile_ = add("compile", _compile, "Compiles the pipeline for a cluster.")
    add_config(compile_)
    compile_.add_argument("--runner", required=True, choices=["vertex", "kubeflow"])
    compile_.add_argument(
        "--output", required=True, metavar="FILE", help="the compiled pipeline: .json or .yaml; for kubeflow .yaml"
    )

    submit = add("submit", _submit, "Compiles the pipeline and starts it on a cluster.")
    add_config(submit)
    submit.add_argument("--runner", required=True, choices=["vertex", "kubeflow"])
    submit.add_argument(
        "--parameter",
        dest="parameters",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="of the run: data, budget or root, as --data, --set search.parameter_budget and --root",
    )
    submit.add_argument(
        "--dry-run", action="store_true", help="print what would be sent, as JSON; no credentials needed"
    )

    init = add("init", _init, "Looks at a CSV file and writes a configuration that runs.")
    init.add_argument("--csv", required=True, metavar="FILE", help="a CSV file with a header; may be .gz")
    init.add_argument("--label", required=True, metavar="COLUMN", help="the column to predict, with two values")
    init.add_argument("--output", required=True, metavar="FILE", help="the configuration, YAML")
    init.add_argument("--force", action="store_true", help="overwrite OUTPUT")

    doctor = add("doctor", _doctor, "Checks this machine and installation; every finding comes with its cure.")
    doctor.add_argument("--root", default="runs", metavar="DIR", help="where the pipeline would write (default: runs)")

    planted = add(
        "planted", _planted, "Writes click data whose embedding dimensions are known, with the truth beside it."
    )
    planted.add_argument("--profile", required=True, metavar="P", help="planted, planted39, small or full")
    planted.add_argument("--rows", required=True, type=int, metavar="N", help="rows in all")
    planted.add_argument(
        "--teacher", type=int, default=0, metavar="T", help="what makes the labels: 0, 1, 2 ... (default: 0)"
    )
    planted.add_argument("--seed", type=int, default=0, metavar="S", help="seed of everything (default: 0)")
    planted.add_argument("--output", required=True, metavar="PATH", help="a .npz or .csv file, or a directory")
    planted.add_argument("--force", action="store_true", help="overwrite OUTPUT")
    return parser


def _configure(arguments) -> tuple[PipelineConfig, str]:
    config = load_config(arguments.config, arguments.overrides, arguments.data)
    return config, arguments.root or os.path.join("runs", config.name)


def _run(arguments) -> int:
    from pipeline.console import QuietOutput, RunProgress
    from pipeline.datasets import prepare

    config, root = _configure(arguments)
    root = os.path.abspath(root)
    log_path = os.path.join(root, "logs", datetime.datetime.now().strftime("%Y%m%dT%H%M%S.log"))
    with QuietOutput() as output:
        console = rich.console.Console(quiet=True) if arguments.json else output.console
        config.make_library_configs()  # rejects bad settings before anything is written
        prepared = prepare(config, root)
        output.log_to(log_path)
        console.print(f"{config.name}: {prepared.num_rows:,} rows; log in {_relative(log_path)}")
        if prepared.num_skipped_rows:
            first = "\n  ".join(prepared.skipped)
            console.print(f"skipped {prepared.num_skipped_rows:,} bad rows, such as\n  {first}", markup=False)
        with RunProgress(console) as progress:
            # Under the status line: importing TFX alone takes many seconds.
            from pipeline.dag import Locations
            from pipeline.runners import run_locally
            from pipeline.summary import summarise_run

            locations = Locations(prepared.directory, prepared.format, root, prepared.pattern)
            try:
                run_locally(config, locations)
            except Exception as error:
                where = f"{progress.running_node}: " if progress.running_node else ""
                kind = UserError if isinstance(error, UserError | ValueError) else RuntimeError
                raise kind(f"{where}{error}\nThe log: {_relative(log_path)}") from error
            summary = summarise_run(config, locations)
        if arguments.json:
            rows = {"num_rows": prepared.num_rows, "num_skipped_rows": prepared.num_skipped_rows}
            output.console.print_json(json.dumps(summary.to_dict() | rows))
        else:
            _print_summary(console, summary, log_path)
    return EXIT_OK


def _print_summary(console: rich.console.Console, summary, log_path: str) -> None:
    plan, uniform = summary.plan, f"uniform {summary.uniform_dimension}"
    table = rich.table.Table("field", title="Embedding plan", title_justify="left")
    for heading in ("vocabulary", "dimension", "parameters"):
        table.add_column(heading, justify="right")
    for field in plan.fields:
        dimension, parameters = str(field.dimension), f"{field.parameters:,}"
        if field.is_chunked:
            dimension, parameters = f"{dimension} by row", "in the pool"
        table.add_row(field.name, f"{field.vocabulary_size:,}", dimension, parameters)
    if plan.chunks is not None:
        table.add_row("pool of chunks", "", "", f"{plan.pool_parameters:,}")
    table.add_section()
    vocabulary = sum(field.vocabulary_size for field in plan.fields)
    table.add_row("total", f"{vocabulary:,}", str(plan.total_dimensions), f"{plan.parameters:,}")
    console.print(table)
    budget = "no budget" if summary.parameter_budget is None else f"budget {summary.parameter_budget}"
    console.print(f"search      {summary.method}, {budget}", markup=False)
    if summary.note is not None:
        console.print(f"note        {summary.note}", markup=False)

    results = rich.table.Table("test split", title="Plan against uniform", title_justify="left")
    for heading in ("plan", uniform) if summary.uniform_auc is not None else ("plan",):
        results.add_column(heading, justify="right")
    rows = [
        ("AUC", f"{summary.auc:.4f}", summary.uniform_auc and f"{summary.uniform_auc:.4f}"),
        ("log loss", f"{summary.log_loss:.4f}", summary.uniform_log_loss and f"{summary.uniform_log_loss:.4f}"),
        ("embedding parameters", f"{plan.parameters:,}", f"{summary.uniform_parameters:,}"),
    ]
    for row in rows:
        results.add_row(*row[: len(results.columns)])
    console.print(results)

    total = sum(summary.seconds.values())
    console.print(
        f"seconds     {', '.join(f'{node} {s:g}' for node, s in summary.seconds.items())}; nodes in all {total:.0f}"
    )
    console.print(f"blessed     {'yes' if summary.blessed else 'no: see the Evaluator in the log'}")
    console.print(f"report      {_relative(summary.report)}")
    console.print(f"SavedModel  {_relative(summary.saved_model)}")
    storage = summary.storage
    changes = f"AUC {storage['auc_difference']:+.2g}, log loss {storage['log_loss_difference']:+.2g}"
    console.print(f"storage     {storage['tables']}: {changes} against the model as it was trained, on the eval split")
    console.print(f"serving     {summary.warmup_records} warm-up records; {summary.infra_validation}", markup=False)
    console.print(f"log         {_relative(log_path)}")
    console.print(
        f"prediction  {summary.prediction['probability']:.4f} for the first row: {summary.prediction['row']}",
        markup=False,
    )


def _relative(path: str) -> str:
    relative = os.path.relpath(path)
    return path if relative.startswith("..") else relative


def _compile(arguments) -> int:
    from pipeline.cluster_commands import compile_to_file

    compile_to_file(arguments)
    return EXIT_OK


def _submit(arguments) -> int:
    from pipeline.cluster_commands import submit_run

    submit_run(arguments)
    return EXIT_OK


def _init(arguments) -> int:
    from pipeline.init_config import write_config

    write_config(arguments.csv, arguments.label, arguments.output, force=arguments.force)
    console = rich.console.Console(highlight=False, soft_wrap=True)
    console.print(f"{arguments.output}: look at it, then: python -m pipeline run --config {arguments.output}")
    return EXIT_OK


def _planted(arguments) -> int:
    from pipeline.datasets.planted_files import write_planted

    paths = write_planted(
        arguments.output,
        arguments.profile,
        arguments.rows,
        teacher=arguments.teacher,
        seed=arguments.seed,
        force=arguments.force,
    )
    console = rich.console.Console(highlight=False, soft_wrap=True)
    console.print(f"{paths[0]}: {arguments.rows:,} rows; the truth in {paths[1]}", markup=False)
    return EXIT_OK


def _doctor(arguments) -> int:
    from pipeline.doctor import diagnose

    findings = diagnose(arguments.root)
    console = rich.console.Console(highlight=False, soft_wrap=True)
    colours = {"ok": "green", "warn": "yellow", "fail": "red"}
    for finding in findings:
        cure = f"\n        cure: {finding.cure}" if finding.cure else ""
        status = f"[{colours[finding.status]}]{finding.status:<5}[/]"
        console.print(f"{status} {finding.name}: {rich.markup.escape(finding.detail)}{rich.markup.escape(cure)}")
    return EXIT_USER_ERROR if any(finding.status == "fail" for finding in findings) else EXIT_OK
