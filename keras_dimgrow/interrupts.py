"""Ctrl-C waits while the variables of a model do not fit each other; SIGTERM waits for a checkpoint."""

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


class Termination:
    """Whether the process was asked to end (SIGTERM: what a scheduler sends to a machine that it takes back)."""

    is_requested = False


@contextlib.contextmanager
def terminations_noted() -> Iterator[Termination]:
    """Holds SIGTERM back until the block ends, and lets the block know of it, so that it can save itself first."""
    termination = Termination()
    handler = signal.getsignal(signal.SIGTERM)
    if threading.current_thread() is not threading.main_thread() or handler is None:
        yield termination
        return

    def note(number, frame):
        termination.is_requested = True

    signal.signal(signal.SIGTERM, note)
    try:
        yield termination
    finally:
        signal.signal(signal.SIGTERM, handler)
    if termination.is_requested:
        signal.raise_signal(signal.SIGTERM)
