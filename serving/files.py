"""Directories that appear complete, on local disks and remote stores."""

import contextlib
import os
import tempfile
import uuid
from collections.abc import Iterator

import tensorflow as tf


@contextlib.contextmanager
def staged_saved_model(directory: str) -> Iterator[str]:
    """A temporary directory to write a SavedModel to; it becomes `directory` when the block ends without an error.

    What was at `directory` is then replaced; after an error nothing stays. The temporary one is a sibling, which one
    rename moves. Remote stores may not rename directories: there it is on the local disk, and is copied with
    saved_model.pb, by which a SavedModel is recognised, as the last file.
    """
    is_remote = "://" in directory
    # TF Serving only takes directories with a number for a name: it does not see this one beside them.
    parent = tempfile.gettempdir() if is_remote else os.path.dirname(directory)
    temporary = os.path.join(parent, f"tmp-export-{uuid.uuid4().hex}")
    try:
        yield temporary
        if tf.io.gfile.exists(directory):
            tf.io.gfile.rmtree(directory)
        if is_remote:
            _copy(temporary, directory)
        else:
            tf.io.gfile.rename(temporary, directory)
    finally:
        if tf.io.gfile.exists(temporary):
            tf.io.gfile.rmtree(temporary)


def _copy(source: str, target: str) -> None:
    paths = [os.path.join(folder, name) for folder, _, names in tf.io.gfile.walk(source) for name in names]
    try:
        for path in sorted(paths, key=lambda path: os.path.basename(path) == "saved_model.pb"):
            destination = os.path.join(target, os.path.relpath(path, source))
            tf.io.gfile.makedirs(os.path.dirname(destination))
            tf.io.gfile.copy(path, destination, overwrite=True)
    except BaseException:
        # The first error matters more than one of clearing up.
        with contextlib.suppress(tf.errors.OpError):
            tf.io.gfile.rmtree(target)
        raise
