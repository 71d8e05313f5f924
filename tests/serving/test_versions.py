"""Numbered versions: what a reader of the directory sees while they are published, pruned and rolled back."""

import os
import threading

import pytest
import tensorflow as tf

from serving.versions import (
    VersionError,
    list_versions,
    list_withdrawn,
    prune_versions,
    publish_version,
    restore_version,
    rollback_version,
)

# No name, of a version neither, is the beginning of another: TensorFlow's file system in memory mixes them up.
FILES = ("saved_model.pb", "fingerprint.pb", "variables/variables.index", "assets/vocabulary")


@pytest.fixture
def model(tmp_path):
    """A directory with the files of a SavedModel, of which only the names matter here."""
    directory = tmp_path / "exported"
    for name in FILES:
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(name)
    return directory


@pytest.fixture(params=["local", "remote"])
def base(request, tmp_path):
    """A base path on the local disk, and on a store that cannot rename directories."""
    if request.param == "local":
        return str(tmp_path / "served")
    return f"ram://{tmp_path.name}/served"


def publish(model, base, *versions):
    for version in versions:
        publish_version(model, base, version=version)


def read_names(directory):
    return {
        os.path.relpath(os.path.join(folder, name), directory)
        for folder, _, names in tf.io.gfile.walk(directory)
        for name in names
    }


def test_a_published_version_is_a_copy_and_nothing_else_is_left(model, base):
    target = publish_version(model, base, version=3)
    assert target == os.path.join(base, "3")
    assert read_names(target) == set(FILES)
    assert [name.rstrip("/") for name in tf.io.gfile.listdir(base)] == ["3"]
    assert read_names(model) == set(FILES)


def test_versions_without_a_number_of_their_own_rise(model, base):
    first = int(os.path.basename(publish_version(model, base)))
    second = int(os.path.basename(publish_version(model, base)))
    assert 1_700_000_000 < first < second
    assert list_versions(base) == [first, second]


def test_a_number_that_was_withdrawn_is_not_used_again(model, base):
    publish(model, base, 1, 4_000_000_000)
    rollback_version(base)
    assert os.path.basename(publish_version(model, base)) == "4000000001"


@pytest.mark.parametrize("version", [0, 2, 3])
def test_a_version_that_servers_would_not_take_for_the_newest_is_refused(model, base, version):
    publish(model, base, 3)
    with pytest.raises(VersionError, match=rf"version {version} must be above all.*\[3\]"):
        publish_version(model, base, version=version)
    assert list_versions(base) == [3]


def test_a_reader_never_sees_a_version_that_is_not_whole(model, tmp_path):
    base, seen, is_done = tmp_path / "served", [], threading.Event()

    def watch():
        while not is_done.is_set():
            for name in os.listdir(base) if base.exists() else ():
                if name.isdecimal():
                    seen.append(read_names(base / name))

    reader = threading.Thread(target=watch)
    reader.start()
    try:
        for version in range(1, 21):
            publish_version(model, base, version=version)
    finally:
        is_done.set()
        reader.join()
    assert seen
    assert all(names == set(FILES) for names in seen)


def test_what_is_prepared_is_part_of_the_version_from_the_start(model, base):
    def prepare(staged):
        assert list_versions(base) == []
        with tf.io.gfile.GFile(os.path.join(staged, "assets", "note"), "w") as file:
            file.write("ready")

    assert "assets/note" in read_names(publish_version(model, base, version=1, prepare=prepare))


def test_nothing_is_published_when_preparing_fails(model, base):
    def prepare(staged):
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        publish_version(model, base, prepare=prepare)
    assert tf.io.gfile.listdir(base) == []


def test_two_publishers_of_one_number_do_not_overwrite_each_other(model, base):
    with pytest.raises(VersionError, match="published by someone else"):
        publish_version(model, base, version=1, prepare=lambda staged: publish_version(model, base, version=1))
    assert read_names(os.path.join(base, "1")) == set(FILES)


def test_only_the_newest_are_kept(model, base):
    publish(model, base, 1, 2, 3)
    publish_version(model, base, version=4, keep=2)
    assert list_versions(base) == [3, 4]


def test_withdrawn_versions_go_when_newer_ones_took_their_place(model, base):
    publish(model, base, 1, 2, 3)
    rollback_version(base)
    assert prune_versions(base, 1) == [1]
    assert list_withdrawn(base) == [3]
    publish(model, base, 4)
    assert prune_versions(base, 1) == [2, 3]
    assert [name.rstrip("/") for name in tf.io.gfile.listdir(base)] == ["4"]


@pytest.mark.parametrize("keep", [0, -1])
def test_the_version_that_is_served_is_never_removed(model, base, keep):
    publish(model, base, 1)
    with pytest.raises(ValueError, match=f"at least 1.*received {keep}"):
        publish_version(model, base, version=2, keep=keep)
    assert list_versions(base) == [1]


def test_a_rollback_hides_the_newest_version_and_undoing_shows_it_again(model, base):
    publish(model, base, 1, 2, 3)
    assert rollback_version(base) == 2
    assert rollback_version(base) == 1
    assert (list_versions(base), list_withdrawn(base)) == ([1], [2, 3])
    assert restore_version(base) == 2
    assert restore_version(base) == 3
    assert read_names(os.path.join(base, "3")) == set(FILES)
    assert list_withdrawn(base) == []


def test_a_rollback_may_go_back_several_versions(model, base):
    publish(model, base, 1, 2, 3)
    assert rollback_version(base, to=1) == 1
    assert list_versions(base) == [1]


def test_rollbacks_that_cannot_be_say_what_there_is(model, base):
    publish(model, base, 1, 5)
    with pytest.raises(VersionError, match=r"no version 3; it has \[1, 5\]"):
        rollback_version(base, to=3)
    with pytest.raises(VersionError, match="no withdrawn version above 5"):
        restore_version(base)
    rollback_version(base)
    with pytest.raises(VersionError, match=r"has versions \[1\]: none to go back to"):
        rollback_version(base)


def test_what_is_no_saved_model_is_not_published(tmp_path, base):
    with pytest.raises(FileNotFoundError, match=r"holds no saved_model\.pb"):
        publish_version(tmp_path, base)
    assert not tf.io.gfile.exists(base)


def test_other_files_in_the_directory_are_no_versions(model, tmp_path):
    publish(model, tmp_path / "served", 2)
    for name in ("tmp-export-1", "withdrawn-x", "12"):
        (tmp_path / "served" / name).mkdir()
    (tmp_path / "served" / "7").write_text("a file")
    assert list_versions(tmp_path / "served") == [2]
    assert list_versions(tmp_path / "nowhere") == []
