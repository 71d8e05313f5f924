"""Where contestants of a race wait: in memory while there is room, else in files."""

import os
import tempfile

import numpy as np

from keras_dimgrow.race_track import State


class RaceStates:
    """States by name, each put and taken in turns; a context manager that deletes its files at the end.

    Args:
        max_bytes: most bytes of all states in memory. None: no bound.
    """

    def __init__(self, max_bytes: int | None):
        self._max_bytes = max_bytes
        self._in_memory: dict[str, State] = {}
        self._paths: dict[str, str] = {}
        self._directory: tempfile.TemporaryDirectory | None = None

    def __enter__(self) -> "RaceStates":
        return self

    def __exit__(self, *_) -> None:
        if self._directory is not None:
            self._directory.cleanup()

    def put(self, name: str, state: State) -> None:
        """Keeps a state until it is taken."""
        held = sum(array.nbytes for arrays in (*self._in_memory.values(), state) for array in arrays)
        if self._max_bytes is None or held <= self._max_bytes:
            self._in_memory[name] = state
            return
        if self._directory is None:
            self._directory = tempfile.TemporaryDirectory(prefix="race")
        self._paths[name] = os.path.join(self._directory.name, f"{len(self._paths)}.npz")
        np.savez(self._paths[name], *state)

    def take(self, name: str) -> State:
        """The state of this name, which is then no longer kept."""
        if name in self._in_memory:
            return self._in_memory.pop(name)
        path = self._paths[name]
        with np.load(path) as arrays:
            state = [arrays[f"arr_{i}"] for i in range(len(arrays.files))]
        os.remove(path)
        return state
