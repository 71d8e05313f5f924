"""How many requests run at once."""

import contextlib
import threading
from collections.abc import Iterator

import grpc

from serving.local_server.errors import RequestError


class RequestLimit:
    """Counts requests in progress, of one protocol.

    Args:
        maximum: how many may be in progress.
    """

    def __init__(self, maximum: int):
        self._maximum, self._num_running, self._changed = maximum, 0, threading.Condition()

    @contextlib.contextmanager
    def admit(self) -> Iterator[None]:
        """One request in progress inside the block.

        Raises:
            RequestError: RESOURCE_EXHAUSTED if there are too many.
        """
        with self._changed:
            if self._num_running >= self._maximum:
                raise RequestError(
                    grpc.StatusCode.RESOURCE_EXHAUSTED,
                    f"{self._maximum} requests are in progress, the most that are allowed. Try again later.",
                )
            self._num_running += 1
        try:
            yield
        finally:
            with self._changed:
                self._num_running -= 1
                self._changed.notify_all()

    def wait_until_idle(self, timeout_s: float) -> bool:
        """Waits for requests in progress; returns whether none is left."""
        with self._changed:
            return self._changed.wait_for(lambda: self._num_running == 0, timeout_s)
