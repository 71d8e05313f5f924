"""Numbered versions of a SavedModel in one directory, as TF Serving watches it: publish, prune, withdraw, restore.

TF Serving serves the children of its base path whose names are numbers, the highest by default, and loads one as soon as
it sees it. So each of these steps ends in one rename, before which the version is not there and after which it is whole.
Names that are no number (`tmp-...`, `withdrawn-...`) are invisible to it.
"""

import os
import re
import time
import uuid
from collections.abc import Callable

import tensorflow as tf

from serving.files import staged_saved_model

_MAIN_FILE = "saved_model.pb"
_WITHDRAWN = "withdrawn-"


class VersionError(ValueError):
    """A version is not there, is there already, or may not be removed; the message says what there is."""


def list_versions(base: str | os.PathLike[str]) -> list[int]:
    """The versions that TF Serving sees in `base`, ascending; empty if the directory is not there."""
    return _list_numbers(os.fspath(base), r"(\d+)")


def list_withdrawn(base: str | os.PathLike[str]) -> list[int]:
    """The versions that `withdraw_versions` hid, ascending."""
    return _list_numbers(os.fspath(base), rf"{_WITHDRAWN}(\d+)")


def publish_version(
    saved_model: str | os.PathLike[str],
    base: str | os.PathLike[str],
    *,
    version: int | None = None,
    keep: int | None = None,
    prepare: Callable[[str], object] | None = None,
) -> str:
    """Copies a SavedModel to `base` as a new version that readers see complete or not at all.

    Args:
        saved_model: the directory that holds saved_model.pb; may be remote.
        base: the directory that TF Serving watches; made if it is not there; may be remote. On stores that cannot rename,
            the files appear one by one, saved_model.pb last.
        version: its number. None: the time in seconds, or one more than the highest there ever was here.
        keep: remove all but this many newest versions afterwards (see `prune_versions`). None: remove none.
        prepare: called with the staged directory before it becomes visible, to add files such as warm-up records.

    Returns:
        The version's directory.

    Raises:
        FileNotFoundError: if `saved_model` holds no SavedModel.
        VersionError: if the version is there already, or is not higher than all others.
        ValueError: if `keep` is below 1. Nothing is written then, nor after any other error.
    """
    saved_model, base = os.fspath(saved_model).rstrip("/"), os.fspath(base).rstrip("/")
    if not tf.io.gfile.exists(os.path.join(saved_model, _MAIN_FILE)):
        raise FileNotFoundError(f"{saved_model} holds no saved_model.pb. Name the directory of an exported SavedModel.")
    _check_keep(keep)
    taken = [*list_versions(base), *list_withdrawn(base)]
    if version is None:
        version = max([int(time.time()), *(number + 1 for number in taken)])
    elif version < 1 or version <= max(taken, default=0):
        raise VersionError(
            f"{base}: version {version} must be above all that are or were there ({sorted(taken)}), because TF Serving "
            "takes the highest for the newest. Leave the version out, or choose a higher one."
        )
    tf.io.gfile.makedirs(base)
    target = os.path.join(base, str(version))
    with staged_saved_model(target) as temporary:
        _copy_tree(saved_model, temporary)
        if prepare is not None:
            prepare(temporary)
        if tf.io.gfile.exists(target):
            raise VersionError(f"{target} was published by someone else meanwhile. Publish again.")
    if keep is not None:
        prune_versions(base, keep)
    return target


def prune_versions(base: str | os.PathLike[str], keep: int) -> list[int]:
    """Removes all but the `keep` newest versions, and withdrawn ones that are older than those; returns what it removed.

    A version that a label of models.config names must not be removed: keep as many as your labels reach back.
    """
    _check_keep(keep)
    base = os.fspath(base).rstrip("/")
    versions = list_versions(base)
    removed = versions[:-keep]
    for version in removed:
        _remove(os.path.join(base, str(version)))
    oldest_kept = versions[-keep:][0] if versions[-keep:] else 0
    outdated = [version for version in list_withdrawn(base) if version < oldest_kept]
    for version in outdated:
        _remove(os.path.join(base, f"{_WITHDRAWN}{version}"))
    return sorted([*removed, *outdated])


def rollback_version(base: str | os.PathLike[str], to: int | None = None) -> int:
    """Hides the newest versions from TF Serving, which goes back to the one before; their files stay.

    Args:
        base: the directory that TF Serving watches.
        to: the version to go back to. None: the second newest.

    Returns:
        The version that is the newest now.

    Raises:
        VersionError: if there is no such version, or none to go back to.
    """
    base = os.fspath(base).rstrip("/")
    versions = list_versions(base)
    if to is None:
        if len(versions) < 2:
            raise VersionError(f"{base} has versions {versions}: none to go back to. Publish a good one instead.")
        to = versions[-2]
    if to not in versions:
        raise VersionError(f"{base} has no version {to}; it has {versions}, and withdrawn {list_withdrawn(base)}.")
    # The newest first: a server that looks meanwhile never meets a version that it had not served.
    for version in reversed([number for number in versions if number > to]):
        _move(os.path.join(base, str(version)), os.path.join(base, f"{_WITHDRAWN}{version}"))
    return to


def restore_version(base: str | os.PathLike[str]) -> int:
    """Undoes one step of `rollback_version`: the lowest withdrawn version is visible again; returns it.

    Raises:
        VersionError: if none is withdrawn, or newer ones were published since.
    """
    base = os.fspath(base).rstrip("/")
    withdrawn, newest = list_withdrawn(base), max(list_versions(base), default=0)
    candidates = [version for version in withdrawn if version > newest]
    if not candidates:
        raise VersionError(f"{base} has no withdrawn version above {newest}; withdrawn are {withdrawn}.")
    version = candidates[0]
    _move(os.path.join(base, f"{_WITHDRAWN}{version}"), os.path.join(base, str(version)))
    return version


def _check_keep(keep: int | None) -> None:
    if keep is not None and keep < 1:
        raise ValueError(f"keep must be at least 1, the version that is served; received {keep}.")


def _list_numbers(base: str, pattern: str) -> list[int]:
    if not tf.io.gfile.isdir(base):
        return []
    matches = (re.fullmatch(pattern, name.rstrip("/")) for name in tf.io.gfile.listdir(base))
    found = [match for match in matches if match is not None]
    return sorted(int(m[1]) for m in found if tf.io.gfile.exists(os.path.join(base, m[0], _MAIN_FILE)))


def _move(source: str, target: str) -> None:
    if "://" not in source:
        tf.io.gfile.rename(source, target)
        return
    with staged_saved_model(target) as temporary:
        _copy_tree(source, temporary)
    _remove(source)


def _remove(directory: str) -> None:
    if "://" in directory:
        # Without it the rest is no version to any reader, however long removing takes.
        tf.io.gfile.remove(os.path.join(directory, _MAIN_FILE))
    else:
        hidden = os.path.join(os.path.dirname(directory), f"tmp-removed-{uuid.uuid4().hex}")
        tf.io.gfile.rename(directory, hidden)
        directory = hidden
    tf.io.gfile.rmtree(directory)


def _copy_tree(source: str, target: str) -> None:
    for folder, _, names in tf.io.gfile.walk(source):
        inside = os.path.relpath(folder.rstrip("/"), source)
        destination = target if inside == "." else os.path.join(target, inside)
        tf.io.gfile.makedirs(destination)
        for name in names:
            tf.io.gfile.copy(os.path.join(folder, name), os.path.join(destination, name), overwrite=True)
