"""`python -m serving status|metadata --url ...`, and the options by which commands find a server."""

import argparse
import json
import sys
from typing import TYPE_CHECKING

from serving.command_line import make_debug_option, quiet_tensorflow

if TYPE_CHECKING:
    from serving.client import ServingClient

_URL_HELP = "grpc://host:port or http://host:port of a TensorFlow Serving, or of `python -m serving local`"


def add_commands(commands: argparse._SubParsersAction) -> None:
    """Adds `status` and `metadata`."""
    for name, description in [
        ("status", "Prints the state of a model's versions on a server, as JSON."),
        ("metadata", "Prints the signatures of a model on a server, as JSON."),
    ]:
        parser = commands.add_parser(
            name,
            parents=[make_debug_option()],
            help=description[0].lower() + description[1:-1],
            description=description,
        )
        parser.add_argument("--url", required=True, help=_URL_HELP)
        add_server_options(parser)
        parser.set_defaults(command=_describe, what=name)


def add_server_options(parser: argparse._ActionsContainer) -> None:
    """Adds which model to ask, and how patiently."""
    parser.add_argument("--model", default="default", help="the model's name on the server (default: %(default)s)")
    version = parser.add_mutually_exclusive_group()
    version.add_argument("--version", type=int, help="its version (default: the newest)")
    version.add_argument("--label", help="the label of its version, such as stable")
    parser.add_argument(
        "--timeout", type=float, default=10.0, metavar="SECONDS", help="of each request (default: %(default)s)"
    )
    parser.add_argument(
        "--attempts", type=int, default=4, help="while the server is unavailable (default: %(default)s)"
    )


def connect(options: argparse.Namespace, **changes: int) -> "ServingClient":
    """The client that a command's options ask for; `changes` are further ClientOptions."""
    from serving.client import ServingClient
    from serving.client_options import ClientOptions, ModelChoice

    return ServingClient(
        options.url,
        ModelChoice(name=options.model, version=options.version, label=options.label),
        ClientOptions(timeout_s=options.timeout, num_attempts=options.attempts, **changes),
    )


def _describe(options: argparse.Namespace) -> int:
    with quiet_tensorflow(options.debug), connect(options) as client:
        document = client.read_status() if options.what == "status" else client.read_metadata()
    sys.stdout.write(json.dumps(document, indent=1, sort_keys=True) + "\n")
    return 0
