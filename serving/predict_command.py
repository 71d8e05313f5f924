"""`python -m serving predict PATH`."""

import argparse
import json
import sys

from serving.command_line import PATH_HELP, make_debug_option, quiet_tensorflow, read_rows, tell_version

_EXAMPLES = """\
examples:
  python -m serving predict runs/adult/serving_model --json '{"age": 39}'
  python -m serving predict runs/adult/serving_model --json @rows.json
  cat rows.json | python -m serving predict runs/adult/serving_model --json -
"""


def add_commands(commands: argparse._SubParsersAction) -> None:
    """Adds `predict`."""
    predict = commands.add_parser(
        "predict",
        parents=[make_debug_option()],
        help="predict rows given as JSON",
        description='Predicts rows; prints {"outputs": probability} for each. Columns left out or null are missing.',
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    predict.add_argument("path", help=PATH_HELP)
    predict.add_argument(
        "--json", required=True, metavar="ROWS", help="an object or a list of objects; @FILE reads a file, - stdin"
    )
    predict.add_argument("--signature", default="predict", help="a signature of raw columns (default: %(default)s)")
    predict.set_defaults(command=_predict)


def _predict(options: argparse.Namespace) -> int:
    rows = read_rows(options.json)
    with quiet_tensorflow(options.debug):
        from serving.check import predict_rows
        from serving.session import find_saved_model

        directory = find_saved_model(options.path)
        outputs = predict_rows(directory, rows, options.signature)
    tell_version(options.path, directory)
    for output in outputs:
        sys.stdout.write(json.dumps({"outputs": output}) + "\n")
    return 0
