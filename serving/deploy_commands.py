"""`python -m serving publish | versions | rollback | warmup`: from an exported model to versions that TF Serving watches."""

import argparse
import collections
import functools
import os
import sys
from typing import Any

from serving.command_line import PATH_HELP, make_debug_option, quiet_tensorflow, read_rows, tell_version

_BASE_HELP = "the directory that TF Serving watches, one numbered directory a version"


def add_commands(commands: argparse._SubParsersAction) -> None:
    """Adds the four commands."""
    debug = make_debug_option()
    rows = argparse.ArgumentParser(add_help=False)
    source = rows.add_mutually_exclusive_group()
    source.add_argument("--json", metavar="ROWS", help="real rows: an object or a list; @FILE reads a file, - stdin")
    source.add_argument("--examples", metavar="FILE", help="real rows: TFRecords of tf.Examples, plain or .gz")
    rows.add_argument("--records", type=int, default=100, metavar="N", help="how many to write, at most 1000 (100)")

    publish = commands.add_parser(
        "publish",
        parents=[debug, rows],
        help="copy a SavedModel to a new version, all at once",
        description="Copies a SavedModel to a new version of BASE, which appears complete or not at all."
        " Rows become warm-up records in it.",
    )
    publish.add_argument("path", help=PATH_HELP)
    publish.add_argument("base", help=_BASE_HELP)
    publish.add_argument("--version", type=int, metavar="V", help="its number (default: the time in seconds)")
    publish.add_argument("--keep", type=int, metavar="N", help="remove all but the N newest versions")
    publish.set_defaults(command=_publish)

    versions = commands.add_parser("versions", parents=[debug], help="list versions", description="Lists versions.")
    versions.add_argument("base", help=_BASE_HELP)
    versions.set_defaults(command=_versions)

    rollback = commands.add_parser(
        "rollback",
        parents=[debug],
        help="go back to the version before; --undo goes forward again",
        description="Hides the newest version from TF Serving, which goes back to the one before. Its files stay.",
    )
    rollback.add_argument("base", help=_BASE_HELP)
    step = rollback.add_mutually_exclusive_group()
    step.add_argument("--to", type=int, metavar="V", help="go back to this version (default: the second newest)")
    step.add_argument("--undo", action="store_true", help="show the version again that was hidden last")
    rollback.set_defaults(command=_rollback)

    warmup = commands.add_parser(
        "warmup",
        parents=[debug, rows],
        help="write warm-up records of real rows into a SavedModel, or replay those it has",
        description="Writes warm-up records of real rows into a SavedModel and replays them; without rows it replays"
        " those that it has. The rows are stored as they are given: none that name a person.",
    )
    warmup.add_argument("path", help=PATH_HELP)
    warmup.set_defaults(command=_warmup)


def _publish(options: argparse.Namespace) -> int:
    with quiet_tensorflow(options.debug):
        from serving.session import find_saved_model
        from serving.versions import list_versions, publish_version

        rows = _read_rows(options)
        directory = find_saved_model(options.path)
        prepare = None if rows is None else functools.partial(_write_records, rows=rows, options=options)
        target = publish_version(directory, options.base, version=options.version, keep=options.keep, prepare=prepare)
        left = list_versions(options.base)
    tell_version(options.path, directory)
    sys.stdout.write(f"published {target}; versions {', '.join(map(str, left))}\n")
    return 0


def _versions(options: argparse.Namespace) -> int:
    with quiet_tensorflow(options.debug):
        from serving.versions import list_versions, list_withdrawn

        versions, withdrawn = list_versions(options.base), list_withdrawn(options.base)
        is_directory = os.path.isdir(options.base) or "://" in options.base
    if not is_directory:
        raise FileNotFoundError(f"No such directory: {options.base}. Publish a first version to it.")
    newest = versions[-1] if versions else None
    for version in sorted([*versions, *withdrawn]):
        state = "withdrawn" if version in withdrawn else "newest" if version == newest else "published"
        sys.stdout.write(f"{version}  {state}\n")
    return 0


def _rollback(options: argparse.Namespace) -> int:
    with quiet_tensorflow(options.debug):
        from serving.versions import list_withdrawn, restore_version, rollback_version

        newest = restore_version(options.base) if options.undo else rollback_version(options.base, options.to)
        withdrawn = list_withdrawn(options.base)
    hidden = f"; withdrawn {', '.join(map(str, withdrawn))}" if withdrawn else ""
    sys.stdout.write(f"the newest version is {newest}{hidden}\n")
    return 0


def _warmup(options: argparse.Namespace) -> int:
    with quiet_tensorflow(options.debug):
        from serving.session import find_saved_model
        from serving.warmup import read_warmup, replay_warmup

        rows = _read_rows(options)
        directory = find_saved_model(options.path)
        if rows is not None:
            _write_records(directory, rows, options)
        replay_warmup(directory)
        counts: collections.Counter[str] = collections.Counter()
        for log in read_warmup(directory):
            request = getattr(log, log.WhichOneof("log_type")).request
            counts[request.model_spec.signature_name] += 1
    tell_version(options.path, directory)
    for signature, count in sorted(counts.items()):
        sys.stdout.write(f"{signature}  {count} records replayed\n")
    return 0


def _read_rows(options: argparse.Namespace) -> list[dict[str, Any]] | None:
    if options.json is not None:
        return read_rows(options.json)
    if options.examples is None:
        return None
    import tensorflow as tf

    from serving.warmup_requests import rows_of_examples

    compression = "GZIP" if options.examples.endswith("gz") else ""
    if not tf.io.gfile.exists(options.examples):
        raise FileNotFoundError(f"No such file: {options.examples}.")
    records = tf.data.TFRecordDataset(options.examples, compression_type=compression).take(32 * options.records)
    return list(rows_of_examples(record.numpy() for record in records))


def _write_records(directory: str, rows: list[dict[str, Any]], options: argparse.Namespace) -> None:
    from serving.warmup import replay_warmup, write_warmup
    from serving.warmup_requests import make_warmup_logs

    logs = make_warmup_logs(directory, rows, num_records=options.records)
    replay_warmup(directory, logs)  # before they are written: what fails here would keep TF Serving from loading
    write_warmup(directory, logs)
