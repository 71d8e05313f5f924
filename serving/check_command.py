"""`python -m serving check PATH`."""

import argparse
import collections
import sys
from typing import TYPE_CHECKING

from serving.command_line import PATH_HELP, make_debug_option, quiet_tensorflow, tell_version

if TYPE_CHECKING:
    from serving.check import SignatureCheck


def add_commands(commands: argparse._SubParsersAction) -> None:
    """Adds `check`."""
    check = commands.add_parser(
        "check",
        parents=[make_debug_option()],
        help="run every signature by every program there is; exit status 2 if one is wrong",
        description="Runs every signature in a Session, by saved_model_cli and by tfx_bsl's RunInference, on made-up rows and"
        " on the rows whose Keras outputs are stored beside the model.",
    )
    check.add_argument("path", help=PATH_HELP)
    check.set_defaults(command=_check)


def _check(options: argparse.Namespace) -> int:
    with quiet_tensorflow(options.debug):
        from serving.check import check_saved_model
        from serving.session import find_saved_model

        directory = find_saved_model(options.path)
        results = check_saved_model(directory)
    tell_version(options.path, directory)
    table = [("signature", "inputs", "result")]
    for result in results:
        outcome = f"{len(result.problems)} problem{'s' if len(result.problems) > 1 else ''}"
        if result.is_ok:
            outcome = (
                f"ok: {len(result.batches)} batches{_describe_probabilities(result)}; {_describe_programs(result)}"
            )
        table.append((result.signature, _describe_inputs(result.inputs), outcome))
    widths = [max(len(row[column]) for row in table) for column in range(2)]
    for first, second, third in table:
        sys.stdout.write(f"{first:<{widths[0]}}  {second:<{widths[1]}}  {third}\n")
    for result in results:
        for problem in result.problems:
            sys.stdout.write(f"{result.signature}: {problem}\n")
    return 0 if all(result.is_ok for result in results) else 2


def _describe_probabilities(result: "SignatureCheck") -> str:
    return "" if result.minimum != result.minimum else f", probabilities {result.minimum:.4f} to {result.maximum:.4f}"


def _describe_programs(result: "SignatureCheck") -> str:
    differences = [difference for difference in result.differences.values() if difference is not None]
    off = f", at most {max(differences):.1g} off the Keras model" if differences else ", no reference outputs stored"
    return f"run by {', '.join(result.differences)}{off}"


def _describe_inputs(inputs: dict[str, str]) -> str:
    if len(inputs) == 1:
        return ", ".join(f"{name}: {kind}" for name, kind in inputs.items())
    counts = collections.Counter(inputs.values())
    return f"{len(inputs)} columns: " + ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items()))
