"""ModelVersions: which versions are loaded while a directory changes."""

import os
import shutil

import numpy as np
import pytest
from tensorflow_serving.apis import model_pb2

from serving.local_server.errors import RequestError
from serving.local_server.versions import ModelVersions
from serving.session import SavedModelError, SavedModelNotFoundError, SessionModel
from tests.serving.small_models import save_small_model

LATEST = model_pb2.ModelSpec(name="small")


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    return save_small_model(tmp_path_factory.mktemp("saved") / "model")


@pytest.fixture
def models(saved, tmp_path):
    """A directory of versions, and a function that adds one."""

    def add(version, source=saved):
        shutil.copytree(source, tmp_path / f"tmp-{version}")
        os.rename(tmp_path / f"tmp-{version}", tmp_path / str(version))

    return tmp_path, add


def test_the_newest_version_is_served_and_replaced_by_a_newer_one(models):
    directory, add = models
    add(9)
    add(2)
    versions = ModelVersions(directory, "small", 1, {})
    assert versions.numbers == [9]
    add(10)
    versions.refresh()
    assert versions.numbers == [10]
    assert versions.states(LATEST) == {10: ("AVAILABLE", ""), 9: ("END", "")}
    versions.close()


def test_a_version_that_is_taken_away_makes_the_one_before_it_the_newest(models):
    directory, add = models
    add(1)
    add(2)
    versions = ModelVersions(directory, "small", 1, {})
    shutil.rmtree(directory / "2")
    versions.refresh()
    assert versions.numbers == [1]
    add(2)
    versions.refresh()
    assert versions.numbers == [2]
    versions.close()


@pytest.mark.parametrize("number", ["versions", "the directory"])
def test_what_is_loaded_stays_when_nothing_is_there_any_more(models, number):
    directory, add = models
    add(1)
    versions = ModelVersions(directory, "small", 1, {})
    shutil.rmtree(directory / "1" if number == "versions" else directory)
    versions.refresh()
    assert versions.numbers == [1]
    versions.close()


def test_a_broken_version_is_reported_and_the_loaded_one_stays(models):
    directory, add = models
    add(1)
    versions = ModelVersions(directory, "small", 1, {})
    (directory / "2").mkdir()
    (directory / "2" / "saved_model.pb").write_bytes(b"no protocol buffer")
    versions.refresh()
    versions.refresh()
    assert versions.numbers == [1]
    state, message = versions.states(LATEST)[2]
    assert state == "END"
    assert "cannot be loaded" in message
    versions.close()


def test_a_directory_without_saved_model_is_no_version_yet(models):
    directory, add = models
    add(1)
    (directory / "2" / "variables").mkdir(parents=True)
    versions = ModelVersions(directory, "small", 1, {})
    assert versions.numbers == [1]
    versions.close()


def test_several_versions_are_found_by_number_and_label(models):
    directory, add = models
    for number in (1, 2, 3):
        add(number)
    versions = ModelVersions(directory, "small", 2, {"stable": 2, "old": 1})
    assert versions.numbers == [2, 3]
    for spec, expected in [
        ({}, 3),
        ({"version": {"value": 2}}, 2),
        ({"version_label": "stable"}, 2),
    ]:
        with versions.lease(model_pb2.ModelSpec(name="small", **spec)) as (number, _):
            assert number == expected
    for spec, message in [
        ({"version": {"value": 1}}, r"Specific\(small, 1\)"),
        ({"version_label": "old"}, r"Specific\(small, 1\)"),
        ({"version_label": "new"}, "Unrecognized servable version label: new"),
    ]:
        with pytest.raises(RequestError, match=message), versions.lease(model_pb2.ModelSpec(name="small", **spec)):
            pass
    versions.close()


def test_a_request_in_progress_keeps_its_version_loaded(models):
    directory, add = models
    add(1)
    versions = ModelVersions(directory, "small", 1, {})
    with versions.lease(LATEST) as (_, model):
        add(2)
        versions.refresh()
        assert versions.states(LATEST)[1] == ("UNLOADING", "")
        signature = model.meta_graph.signature_def["many"]
        feeds = {signature.inputs["city"].name: np.array([b"x"], object)}
        assert model.fetch(feeds, [signature.outputs["outputs"].name])[0].shape == (1, 1)
    assert versions.states(LATEST)[1] == ("END", "")
    assert versions.numbers == [2]
    versions.close()


def test_a_saved_model_itself_is_served_as_the_version_its_directory_names(saved, models):
    directory, add = models
    add(7)
    for path, number in ((directory / "7", 7), (saved, 1)):
        versions = ModelVersions(path, "small", 1, {})
        assert versions.numbers == [number]
        versions.close()


def test_no_version_is_an_error_that_says_what_is_there(tmp_path):
    with pytest.raises(SavedModelNotFoundError, match="It holds nothing"):
        ModelVersions(tmp_path, "small", 1, {})
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "saved_model.pb").write_bytes(b"no protocol buffer")
    with pytest.raises(SavedModelError, match="cannot be loaded"):
        ModelVersions(tmp_path, "small", 1, {})


def test_sessions_are_closed_with_their_versions(models, monkeypatch):
    directory, add = models
    add(1)
    closed = []
    original = SessionModel.__exit__
    monkeypatch.setattr(SessionModel, "__exit__", lambda self, *error: (closed.append(1), original(self, *error)))
    versions = ModelVersions(directory, "small", 1, {})
    add(2)
    versions.refresh()
    assert len(closed) == 1
    versions.close()
    assert len(closed) == 2
