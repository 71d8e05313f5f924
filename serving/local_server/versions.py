"""The versions of a model that are loaded, kept up to date with a directory."""

import contextlib
import dataclasses
import logging
import os
import threading
from collections.abc import Iterator, Mapping

import grpc
import tensorflow as tf
from tensorflow_serving.apis import model_pb2

from serving.local_server.errors import RequestError, invalid
from serving.session import SavedModelError, SessionModel, find_saved_model

_LOG = logging.getLogger(__name__)


@dataclasses.dataclass
class _Loaded:
    model: SessionModel
    num_requests: int = 0
    is_retired: bool = False


class ModelVersions:
    """Loads the newest versions of a model and unloads others, as TF Serving does; safe to use from many threads.

    A version is unloaded after every newer one that is wanted is loaded and its own last request has ended. One that
    fails to load is reported by `states`, and the versions that were loaded stay.

    Args:
        path: a SavedModel (its version is its directory's number, else 1), or a directory of numbered versions.
        name: the model's name.
        num_versions: how many of the newest are wanted.
        labels: {label: version}.

    Raises:
        SavedModelNotFoundError: if there is no version.
        SavedModelError: if none can be loaded.
    """

    def __init__(self, path: str | os.PathLike[str], name: str, num_versions: int, labels: Mapping[str, int]):
        self.name = name
        self._path, self._num_versions, self._labels = os.fspath(path).rstrip("/"), num_versions, dict(labels)
        self._lock = threading.Lock()
        self._loaded: dict[int, _Loaded] = {}
        self._states: dict[int, tuple[str, str]] = {}
        find_saved_model(self._path)  # says what is there, if no model is
        self.refresh()
        if not self._loaded:
            raise SavedModelError(next(message for state, message in self._states.values() if state == "END"))

    @property
    def numbers(self) -> list[int]:
        """The loaded versions, in order."""
        with self._lock:
            return sorted(number for number, loaded in self._loaded.items() if not loaded.is_retired)

    def refresh(self) -> None:
        """Looks at the directory once: loads what is new, then unloads what is no longer wanted."""
        found = self._find_directories()
        wanted = sorted(found)[-self._num_versions :]
        for number in wanted:
            with self._lock:
                is_known = number in self._loaded or self._states.get(number, ("", ""))[1] != ""
            if not is_known:
                self._load(number, found[number])
        with self._lock:
            if wanted and all(number in self._loaded for number in wanted):
                for number in set(self._loaded) - set(wanted):
                    self._retire(number)

    @contextlib.contextmanager
    def lease(self, spec: model_pb2.ModelSpec) -> Iterator[tuple[int, SessionModel]]:
        """The version that a request asks for, kept loaded inside the block.

        Raises:
            RequestError: NOT_FOUND, or INVALID_ARGUMENT for an unknown label.
        """
        with self._lock:
            number = self._choose(spec)
            loaded = self._loaded[number]
            loaded.num_requests += 1
        try:
            yield number, loaded.model
        finally:
            with self._lock:
                loaded.num_requests -= 1
                if loaded.is_retired:
                    self._close_if_idle(number)

    def states(self, spec: model_pb2.ModelSpec) -> dict[int, tuple[str, str]]:
        """{version: (state, error message or "")} of all versions seen, newest first, or of the one asked for.

        Raises:
            RequestError: NOT_FOUND.
        """
        with self._lock:
            states = {number: self._states[number] for number in sorted(self._states, reverse=True)}
        if spec.name != self.name:
            raise RequestError(grpc.StatusCode.NOT_FOUND, f"Could not find any versions of model {spec.name}")
        if not spec.HasField("version"):
            return states
        number = spec.version.value
        if number not in states:
            raise RequestError(grpc.StatusCode.NOT_FOUND, f"Could not find version {number} of model {spec.name}")
        return {number: states[number]}

    def close(self) -> None:
        """Unloads all versions; those in use when their requests end."""
        with self._lock:
            for number in list(self._loaded):
                self._retire(number)

    def _find_directories(self) -> dict[int, str]:
        if tf.io.gfile.exists(os.path.join(self._path, "saved_model.pb")):
            number = os.path.basename(os.path.abspath(self._path))
            return {int(number) if number.isdecimal() else 1: self._path}
        try:
            names = [name.rstrip("/") for name in tf.io.gfile.listdir(self._path)]
        except tf.errors.NotFoundError:
            return {}  # what is loaded stays
        paths = {int(name): os.path.join(self._path, name) for name in names if name.isdecimal()}
        return {n: path for n, path in paths.items() if tf.io.gfile.exists(os.path.join(path, "saved_model.pb"))}

    def _load(self, number: int, directory: str) -> None:
        with self._lock:
            self._states[number] = ("LOADING", "")
        try:
            model = SessionModel(directory)
        except SavedModelError as error:
            _LOG.error("version %s of model %s was not loaded: %s", number, self.name, error)
            with self._lock:
                self._states[number] = ("END", str(error))
            return
        with self._lock:
            self._loaded[number] = _Loaded(model)
            self._states[number] = ("AVAILABLE", "")
        _LOG.info("loaded version %s of model %s from %s", number, self.name, directory)

    def _choose(self, spec: model_pb2.ModelSpec) -> int:
        available = [number for number, loaded in self._loaded.items() if not loaded.is_retired]
        asked = f"Latest({spec.name})"
        if spec.name == self.name:
            number = max(available, default=-1)
            choice = spec.WhichOneof("version_choice")
            if choice == "version_label":
                if spec.version_label not in self._labels:
                    raise invalid(f"Unrecognized servable version label: {spec.version_label}")
                number = self._labels[spec.version_label]
            elif choice == "version":
                number = spec.version.value
            if number in available:
                return number
            asked = f"Specific({spec.name}, {number})" if choice else asked
        raise RequestError(grpc.StatusCode.NOT_FOUND, f"Servable not found for request: {asked}")

    def _retire(self, number: int) -> None:
        self._loaded[number].is_retired = True
        self._states[number] = ("UNLOADING", "")
        self._close_if_idle(number)

    def _close_if_idle(self, number: int) -> None:
        if self._loaded[number].num_requests == 0:
            self._loaded.pop(number).model.__exit__(None, None, None)
            self._states[number] = ("END", "")
            _LOG.info("unloaded version %s of model %s", number, self.name)
