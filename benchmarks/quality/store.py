"""Finished cases on disk: one small JSON each, under a name that is a hash of all that determines it."""

import hashlib
import json
import os
from collections.abc import Mapping
from typing import Any


class Store:
    """A directory of finished cases; what was interrupted left nothing there.

    Args:
        directory: made where it is missing.
    """

    def __init__(self, directory: str):
        self._directory = directory
        os.makedirs(directory, exist_ok=True)

    def load(self, key: Mapping[str, Any]) -> dict[str, Any] | None:
        """The result of the case that `key` describes, None if it is not there."""
        try:
            with open(self._path(key), encoding="utf-8") as stream:
                return json.load(stream)["result"]
        except FileNotFoundError:
            return None

    def save(self, key: Mapping[str, Any], result: Mapping[str, Any]) -> None:
        """Writes a result beside its key, to a temporary name first."""
        path = self._path(key)
        with open(f"{path}.tmp", "w", encoding="utf-8") as stream:
            json.dump({"key": key, "result": result}, stream, indent=1, sort_keys=True)
        os.replace(f"{path}.tmp", path)

    def _path(self, key: Mapping[str, Any]) -> str:
        text = json.dumps(key, sort_keys=True)
        return os.path.join(self._directory, f"{key['kind']}-{hashlib.sha256(text.encode()).hexdigest()[:20]}.json")
