"""`python -m serving predict PATH` and `predict --url URL`."""

import argparse
import json
import sys
from typing import Any

from serving.client_command import add_server_options, connect
from serving.command_line import PATH_HELP, make_debug_option, quiet_tensorflow, read_rows, tell_version

_EXAMPLES = """\
examples:
  python -m serving predict runs/adult/serving_model --json '{"age": 39}'
  python -m serving predict runs/adult/serving_model --json @rows.json
  cat rows.json | python -m serving predict runs/adult/serving_model --json -
  python -m serving predict --url grpc://127.0.0.1:8500 --model adult --label stable --json @rows.json
"""


def add_commands(commands: argparse._SubParsersAction) -> None:
    """Adds `predict`."""
    predict = commands.add_parser(
        "predict",
        parents=[make_debug_option()],
        help="predict rows given as JSON, by a SavedModel or by a server",
        description='Predicts rows; prints {"outputs": probability} for each. Columns left out or null are missing.',
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    predict.add_argument("path", nargs="?", help=PATH_HELP)
    predict.add_argument(
        "--json", required=True, metavar="ROWS", help="an object or a list of objects; @FILE reads a file, - stdin"
    )
    predict.add_argument("--signature", default="predict", help="a signature of raw columns (default: %(default)s)")
    server = predict.add_argument_group("asking a server instead of a file")
    server.add_argument("--url", help="grpc://host:port or http://host:port")
    add_server_options(server)
    server.add_argument("--batch-rows", type=int, default=1024, help="the most of one request (default: %(default)s)")
    predict.set_defaults(command=_predict)


def _predict(options: argparse.Namespace) -> int:
    if (options.path is None) == (options.url is None):
        raise ValueError("Give either the PATH of a SavedModel or the --url of a server.")
    rows = read_rows(options.json)
    for line in _ask_server(options, rows) if options.url else _run_file(options, rows):
        sys.stdout.write(json.dumps(line) + "\n")
    return 0


def _run_file(options: argparse.Namespace, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    with quiet_tensorflow(options.debug):
        from serving.check import predict_rows
        from serving.session import find_saved_model

        directory = find_saved_model(options.path)
        outputs = predict_rows(directory, rows, options.signature)
    tell_version(options.path, directory)
    return [{"outputs": output} for output in outputs]


def _ask_server(options: argparse.Namespace, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    with quiet_tensorflow(options.debug), connect(options, batch_rows=options.batch_rows) as client:
        outputs = client.predict(rows, options.signature)
    return [{name: _to_json(output[row : row + 1]) for name, output in outputs.items()} for row in range(len(rows))]


def _to_json(cell: Any) -> Any:
    """A row of an output: a plain value where it has one only."""
    values = [x.decode("utf-8", "replace") if isinstance(x, bytes) else x for x in cell.ravel().tolist()]
    return values[0] if len(values) == 1 else values
