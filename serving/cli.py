"""`python -m serving check|predict`: runs a SavedModel's signatures as TF Serving would."""

import argparse
import collections
import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from serving import configure_command, deploy_commands

_PREDICT_EXAMPLES = """\
examples:
  python -m serving predict runs/adult/serving_model --json '{"age": 39}'
  python -m serving predict runs/adult/serving_model --json @rows.json
  cat rows.json | python -m serving predict runs/adult/serving_model --json -
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit status: 0, or 2 after a failed check or an error."""
    options = _make_parser().parse_args(arguments)
    # Before tensorflow is imported: it reads this once.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    command: Callable[[argparse.Namespace], int] = options.command
    try:
        return command(options)
    except Exception as error:
        if options.debug:
            raise
        sys.stderr.write(f"error: {_first_lines(error)}\n")
        return 2


def _make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m serving", description="Runs a SavedModel's signatures as TF Serving would."
    )
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("path", help="a SavedModel, or a directory of numbered versions (the newest is used)")
    shared.add_argument("--debug", action="store_true", help="show stack traces and TensorFlow's own messages")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    check = commands.add_parser(
        "check",
        parents=[shared],
        help="run every signature on made-up rows; exit status 2 if one is wrong",
        description="Runs every signature on made-up rows: all missing, some values, unknown text.",
    )
    check.set_defaults(command=_check)
    predict = commands.add_parser(
        "predict",
        parents=[shared],
        help="predict rows given as JSON",
        description='Predicts rows; prints {"outputs": probability} for each. Columns left out or null are missing.',
        epilog=_PREDICT_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    predict.add_argument(
        "--json", required=True, metavar="ROWS", help="an object or a list of objects; @FILE reads a file, - stdin"
    )
    predict.add_argument("--signature", default="predict", help="a signature of raw columns (default: %(default)s)")
    predict.set_defaults(command=_predict)
    for module in (deploy_commands, configure_command):
        module.add_commands(commands)
    return parser


def _check(options: argparse.Namespace) -> int:
    with _quiet_tensorflow(options.debug):
        from serving.check import check_saved_model
        from serving.session import find_saved_model

        directory = find_saved_model(options.path)
        results = check_saved_model(directory)
    _tell_version(options.path, directory)
    table = [("signature", "inputs", "result")]
    for result in results:
        outcome = f"{len(result.problems)} problem{'s' if len(result.problems) > 1 else ''}"
        if result.is_ok:
            outcome = f"ok: {len(result.batches)} batches, outputs {result.minimum:.4f} to {result.maximum:.4f}"
        table.append((result.signature, _describe_inputs(result.inputs), outcome))
    widths = [max(len(row[column]) for row in table) for column in range(2)]
    for first, second, third in table:
        sys.stdout.write(f"{first:<{widths[0]}}  {second:<{widths[1]}}  {third}\n")
    for result in results:
        for problem in result.problems:
            sys.stdout.write(f"{result.signature}: {problem}\n")
    return 0 if all(result.is_ok for result in results) else 2


def _predict(options: argparse.Namespace) -> int:
    rows = _read_rows(options.json)
    with _quiet_tensorflow(options.debug):
        from serving.check import predict_rows
        from serving.session import find_saved_model

        directory = find_saved_model(options.path)
        outputs = predict_rows(directory, rows, options.signature)
    _tell_version(options.path, directory)
    for output in outputs:
        sys.stdout.write(json.dumps({"outputs": output}) + "\n")
    return 0


def _tell_version(path: str, directory: str) -> None:
    if directory != path:
        sys.stderr.write(f"using {directory}\n")


def _describe_inputs(inputs: dict[str, str]) -> str:
    if len(inputs) == 1:
        return ", ".join(f"{name}: {kind}" for name, kind in inputs.items())
    counts = collections.Counter(inputs.values())
    return f"{len(inputs)} columns: " + ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items()))


def _read_rows(argument: str) -> list[dict[str, Any]]:
    if argument == "-":
        text, source = sys.stdin.read(), "stdin"
    elif argument.startswith("@"):
        with open(argument[1:], encoding="utf-8") as file:
            text, source = file.read(), argument[1:]
    else:
        text, source = argument, "--json"
    try:
        rows = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{source} is no JSON: {error}. Write an object, {{...}}, or a list of objects.") from error
    rows = rows if isinstance(rows, list) else [rows]
    for index, row in enumerate(rows):
        if not isinstance(row, dict):
            raise ValueError(f"{source}: row {index} must be an object, {{column: value}}; received {row!r}.")
    return rows


def _first_lines(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    known = (ValueError, OSError)
    is_ours = isinstance(error, known) or type(error).__module__.startswith("serving.")
    return "\n".join(([] if is_ours and lines else [f"{type(error).__name__}:"]) + lines[:2])


@contextlib.contextmanager
def _quiet_tensorflow(is_debug: bool) -> Iterator[None]:
    """Discards stderr, C++'s too: TF_CPP_MIN_LOG_LEVEL does not hold for what TensorFlow says while it starts."""
    if is_debug:
        yield
        return
    sys.stderr.flush()
    saved, sink = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(sink, 2)
        yield
    finally:
        sys.stderr.flush()
        os.dup2(saved, 2)
        os.close(saved)
        os.close(sink)
