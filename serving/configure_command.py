"""`python -m serving configure`: writes what TensorFlow Serving, Docker, Kubernetes and KServe need to serve a model."""

import argparse
import sys

from serving.command_line import make_debug_option, quiet_tensorflow
from serving.configure import SERVING_VERSION, ServerConfig, write_files

_EXAMPLES = """\
examples:
  python -m serving configure deploy --name adult
  python -m serving configure deploy --name adult --label stable=3 --label canary=4
  python -m serving configure deploy --name adult --labels-from deploy/models
"""


def add_commands(commands: argparse._SubParsersAction) -> None:
    """Adds `configure`."""
    configure = commands.add_parser(
        "configure",
        parents=[make_debug_option()],
        help="write models.config, Dockerfile, compose.yaml, Kubernetes and KServe manifests for a model",
        description="Writes the files that deploy a model on TensorFlow Serving.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    configure.add_argument("directory", help="where to write; made if it is not there")
    configure.add_argument("--name", required=True, help="the model's name in requests")
    configure.add_argument(
        "--base-path", metavar="PATH", help="where the server finds versions (default: /models/NAME)"
    )
    labels = configure.add_mutually_exclusive_group()
    labels.add_argument(
        "--label", action="append", default=[], metavar="LABEL=V", help="serve version V under this label; repeatable"
    )
    labels.add_argument(
        "--labels-from", metavar="BASE", help="canary: the newest version there; stable: the one before it"
    )
    configure.add_argument("--image", metavar="IMAGE", help="the image of Kubernetes' pods (default: NAME-serving:1)")
    configure.add_argument("--storage-uri", metavar="URI", help="the versions, for KServe (default: pvc://NAME/models)")
    configure.add_argument("--batching", action="store_true", help="the server joins requests; see batching.config")
    configure.add_argument(
        "--serving-version", default=SERVING_VERSION, metavar="TAG", help="of tensorflow/serving (default: %(default)s)"
    )
    configure.add_argument("--force", action="store_true", help="overwrite files that differ")
    configure.set_defaults(command=_configure)


def _configure(options: argparse.Namespace) -> int:
    config = ServerConfig(
        name=options.name,
        base_path=options.base_path,
        labels=_find_labels(options.labels_from, options.debug) if options.labels_from else _parse(options.label),
        image=options.image,
        storage_uri=options.storage_uri,
        use_batching=options.batching,
        serving_version=options.serving_version,
    )
    for path in write_files(config, options.directory, force=options.force):
        sys.stdout.write(f"{path}\n")
    return 0


def _parse(labels: list[str]) -> dict[str, int]:
    parsed = {}
    for text in labels:
        label, _, version = text.partition("=")
        if not version.isdecimal():
            raise ValueError(f"--label takes LABEL=VERSION, such as stable=3; received {text!r}.")
        parsed[label] = int(version)
    return parsed


def _find_labels(base: str, is_debug: bool) -> dict[str, int]:
    with quiet_tensorflow(is_debug):
        from serving.versions import list_versions

        versions = list_versions(base)
    if not versions:
        raise FileNotFoundError(f"{base} has no version to label. Publish one first: python -m serving publish.")
    return {"stable": versions[-2:][0], "canary": versions[-1]}
