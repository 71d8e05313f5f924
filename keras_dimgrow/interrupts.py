"""Ctrl-C waits while the variables of a model do not fit each other."""

import contextlib
import signal
import threading
from collections.abc import Iterator


@contextlib.contextmanager
def interrupts_deferred() -> Iterator[None]:
    """Holds SIGINT back until the block ends, so that a KeyboardInterrupt does not leave its work half done."""
    is_interruptible = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGINT)
    if not is_interruptible or not callable(handler):  # no handler of Python's: nothing is raised in the block
        yield
        return
    received = []
    signal.signal(signal.SIGINT, lambda number, frame: received.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
    if received:
        signal.raise_signal(signal.SIGINT)
