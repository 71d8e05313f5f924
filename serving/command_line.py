"""What the subcommands of `python -m serving` share."""

import argparse
import contextlib
import json
import os
import sys
from collections.abc import Iterator
from typing import Any

PATH_HELP = "a SavedModel, or a directory of numbered versions (the newest is used)"


def make_debug_option() -> argparse.ArgumentParser:
    """A parent parser with --debug; every subcommand takes it."""
    parent = argparse.ArgumentParser(add_help=False)
    parent.add_argument("--debug", action="store_true", help="show stack traces and TensorFlow's own messages")
    return parent


def read_rows(argument: str) -> list[dict[str, Any]]:
    """Rows of a --json argument: JSON itself, @FILE or - for stdin; one object or a list of objects.

    Raises:
        ValueError: if it is anything else; the message names the source.
    """
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


def tell_version(path: str, directory: str) -> None:
    """Says on stderr which version of `path` was taken, if `path` is not itself the SavedModel."""
    if directory != path:
        sys.stderr.write(f"using {directory}\n")


def describe_failure(error: Exception) -> str:
    """At most two lines for the user: the error's kind is told where the error is not one of ours."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    is_ours = isinstance(error, ValueError | OSError) or type(error).__module__.startswith("serving.")
    return "\n".join(([] if is_ours and lines else [f"{type(error).__name__}:"]) + lines[:2])


@contextlib.contextmanager
def quiet_tensorflow(is_debug: bool) -> Iterator[None]:
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
