"""`python -m serving`: each subcommand is a module of its own, with a function `add_commands(commands)`."""

import argparse
import os
import sys
from collections.abc import Callable, Sequence

from serving import check_command, client_command, configure_command, deploy_commands, local_command, predict_command
from serving.command_line import describe_failure

# In the order of --help. Such a module imports TensorFlow inside its commands only, so that --help is quick.
_MODULES = (check_command, predict_command, client_command, local_command, deploy_commands, configure_command)


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
        sys.stderr.write(f"error: {describe_failure(error)}\n")
        return 2


def _make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m serving", description="Checks, serves and asks SavedModels for TensorFlow Serving."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for module in _MODULES:
        module.add_commands(commands)
    return parser
