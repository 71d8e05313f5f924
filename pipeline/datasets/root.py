"""A directory that can be written to, and that is not left behind when the work in it fails."""

import contextlib
import os
import tempfile
from collections.abc import Iterator

from pipeline.errors import UserError


@contextlib.contextmanager
def writable_root(root: str) -> Iterator[None]:
    """Makes the directory `root` and proves that files can be made in it; on any error removes the directories it made.

    Only directories that are empty by then are removed.

    Raises:
        UserError: if nothing can be written to `root`, be it only later, because the disk is full.
    """
    if "://" in root:
        raise UserError(
            f"{root}: the pipeline's root must be a local directory when data is prepared. Give --root DIR."
        )
    made: list[str] = []
    try:
        _make_directory(os.path.abspath(root), made)
        # Permission bits say nothing to the superuser, nor on a read-only or full disk: only a real file does.
        with tempfile.TemporaryFile(dir=root) as file:
            file.write(b"\0")
        yield
    except BaseException as error:
        remove_empty(made)
        if isinstance(error, OSError):
            reason = f"{root}: cannot be written to ({error.strerror or error})"
            raise UserError(f"{reason}. Make it writable, or choose another directory with --root DIR.") from error
        raise


def find_existing(path: str) -> str:
    """The directory `path`, or its nearest parent that exists."""
    path = os.path.abspath(path)
    while not os.path.isdir(path):
        path = os.path.dirname(path)
    return path


def check_writable(root: str) -> None:
    """Raises UserError if no file can be made in the directory `root`; leaves nothing behind."""
    existed = find_existing(root)
    with writable_root(root):
        made = os.path.abspath(root)
    while made != existed:
        remove_empty([made])
        made = os.path.dirname(made)


def remove_empty(directories: list[str]) -> None:
    """Removes those of the directories that are empty, the last one first."""
    for directory in reversed(directories):
        with contextlib.suppress(OSError):
            os.rmdir(directory)


def _make_directory(directory: str, made: list[str]) -> None:
    if not os.path.isdir(directory):
        _make_directory(os.path.dirname(directory), made)
        os.mkdir(directory)
        made.append(directory)
