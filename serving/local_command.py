"""`python -m serving local PATH`."""

import argparse
import logging
import signal
import sys
import threading

from serving.command_line import PATH_HELP, make_debug_option, quiet_tensorflow

_DESCRIPTION = """\
Serves a SavedModel over TensorFlow Serving's gRPC services and REST API: a DEVELOPMENT STAND-IN, NOT FOR PRODUCTION.
It has no TLS, no authentication, no batching across requests and no metrics; in production run TensorFlow Serving.
Where tensorflow_model_server is on PATH, or TF_SERVING_BINARY names it, that one is run instead.
"""
_EXAMPLES = """\
examples:
  python -m serving local runs/adult/serving_model
  python -m serving local runs/adult/serving_model --num-versions 2 --version-label stable=6 --version-label canary=7
then:
  python -m serving status --url grpc://127.0.0.1:8500
  curl http://127.0.0.1:8501/v1/models/default/metadata
"""


def add_commands(commands: argparse._SubParsersAction) -> None:
    """Adds `local`."""
    local = commands.add_parser(
        "local",
        parents=[make_debug_option()],
        help="serve a SavedModel for development (a stand-in for TensorFlow Serving, not for production)",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    local.add_argument("path", help=PATH_HELP)
    local.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s, this machine)")
    local.add_argument("--port", type=int, default=8500, help="of gRPC; 0: a free one (default: %(default)s)")
    local.add_argument("--rest-port", type=int, default=8501, help="of REST; 0: a free one (default: %(default)s)")
    local.add_argument("--model-name", default="default", help="the name that requests give (default: %(default)s)")
    local.add_argument(
        "--num-versions", type=int, default=1, metavar="N", help="serve the N newest versions (default: %(default)s)"
    )
    local.add_argument(
        "--version-label", action="append", default=[], metavar="LABEL=VERSION", help="may be given more than once"
    )
    local.add_argument(
        "--poll-seconds", type=float, default=1.0, help="how often to look for new versions (default: %(default)s)"
    )
    local.add_argument(
        "--max-message-mib", type=int, default=64, metavar="MIB", help="largest request (default: %(default)s)"
    )
    local.add_argument(
        "--max-concurrent", type=int, default=64, metavar="N", help="requests at a time (default: %(default)s)"
    )
    local.set_defaults(command=_serve)


def _serve(options: argparse.Namespace) -> int:
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    # Also what makes the stand-in's own log visible: versions that come and go.
    logging.basicConfig(level=logging.DEBUG if options.debug else logging.INFO, format="%(message)s")
    logging.getLogger("tensorflow").setLevel(logging.WARNING)
    with quiet_tensorflow(options.debug):
        from serving.local_server.config import LocalServerConfig
        from serving.local_server.grpc_services import STAND_IN
        from serving.local_server.real import RealServer, find_real_server
        from serving.local_server.server import LocalServer

        config = LocalServerConfig(
            path=options.path,
            model_name=options.model_name,
            host=options.host,
            port=options.port,
            rest_port=options.rest_port,
            num_versions=options.num_versions,
            version_labels=dict(_read_label(text) for text in options.version_label),
            poll_seconds=options.poll_seconds,
            max_message_bytes=options.max_message_mib * 2**20,
            max_concurrent_requests=options.max_concurrent,
        )
        binary = find_real_server()
        server = RealServer(binary, config) if binary else LocalServer(config)
    with server:
        kind = f"{binary}, listening on all addresses" if binary else STAND_IN
        sys.stdout.write(f"{kind}\ngRPC {server.grpc_url}\nREST {server.rest_url}/v1/models/{config.model_name}\n")
        if isinstance(server, LocalServer):
            sys.stdout.write(f"versions {server.versions.numbers} of {options.path}\n")
        sys.stdout.flush()
        if options.host not in ("127.0.0.1", "localhost"):
            sys.stderr.write(f"warning: {options.host} may be reached from other machines, without TLS or passwords\n")
        while not stop.wait(0.2):
            status = server.process.poll() if isinstance(server, RealServer) and server.process else None
            if status is not None:
                raise RuntimeError(f"{binary} ended with exit status {status}.")
        sys.stdout.write("stopping: requests in progress may end\n")
        sys.stdout.flush()
    return 0


def _read_label(text: str) -> tuple[str, int]:
    label, _, version = text.partition("=")
    if not label or not version.isdecimal():
        raise ValueError(f"--version-label needs LABEL=VERSION, such as stable=6; received {text!r}.")
    return label, int(version)
