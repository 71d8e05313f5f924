"""What a person sees while the pipeline runs; everything that libraries print goes to a log file."""

import logging
import os
import re
import shutil
import sys
import tempfile
import time
from typing import IO

import absl.logging
import rich.console
import rich.status


class QuietOutput:
    """Sends stdout and stderr of this process, C++ libraries included, to a log; `console` prints to the real stdout.

    The console prints rich text on a terminal and plain lines elsewhere. Use it as a context manager. The log is a
    temporary file, gone at the end, until `log_to` names one to keep.
    """

    def __enter__(self) -> "QuietOutput":
        _flush()
        self._originals = [os.dup(descriptor) for descriptor in (1, 2)]
        self._log: IO[bytes] = tempfile.TemporaryFile()
        self._redirect([self._log.fileno()] * 2)
        # Owned by the console; the duplicate is closed in __exit__.
        self._stdout = open(os.dup(self._originals[0]), "w", encoding="utf-8")
        self.console = rich.console.Console(file=self._stdout, highlight=False, soft_wrap=True)
        return self

    def log_to(self, path: str) -> None:
        """Keeps the log in `path` from now on, with what was logged before; makes its directory."""
        os.makedirs(os.path.dirname(path), exist_ok=True)
        _flush()
        self._log.seek(0)
        log = open(path, "ab", buffering=0)  # noqa: SIM115 (closed in __exit__)
        shutil.copyfileobj(self._log, log)
        self._redirect([log.fileno()] * 2)
        self._log.close()
        self._log = log

    def __exit__(self, *exc_info) -> None:
        _flush()
        self._redirect(self._originals)
        self._stdout.close()
        self._log.close()
        for descriptor in self._originals:
            os.close(descriptor)

    @staticmethod
    def _redirect(descriptors: list[int]) -> None:
        for target, descriptor in zip((1, 2), descriptors, strict=True):
            os.dup2(descriptor, target)


def _flush() -> None:
    sys.stdout.flush()
    sys.stderr.flush()


class RunProgress(logging.Handler):
    """Turns the log records of TFX's local runner and of DimSearch into progress on a console.

    On a terminal a status line follows the running node; elsewhere each finished node, and every tenth of a search (every
    doubling of its steps, if their number is unknown), is a line. Use it as a context manager.
    """

    _NODE = re.compile(r"Component (\S+) is (running|finished)\.")

    def __init__(self, console: rich.console.Console):
        super().__init__(logging.INFO)
        self._console = console
        self._status: rich.status.Status | None = None
        self._node = ""
        self._began = 0.0
        self._part = 0
        self._loggers = [logging.getLogger("absl"), logging.getLogger("components.dim_search.executor")]

    @property
    def running_node(self) -> str:
        """The node that runs now, or ran when an error stopped the pipeline; empty before the first."""
        return self._node

    def __enter__(self) -> "RunProgress":
        # By absl's own call: it would set its logger back to WARNING at the first change of handlers otherwise.
        absl.logging.set_verbosity(absl.logging.INFO)
        for name in ("components", "keras_dimgrow"):
            logging.getLogger(name).setLevel(logging.INFO)
        for source in self._loggers:
            source.addHandler(self)
        if self._console.is_terminal:
            self._status = self._console.status("starting")
            self._status.start()
        return self

    def __exit__(self, *exc_info) -> None:
        for source in self._loggers:
            source.removeHandler(self)
        if self._status is not None:
            self._status.stop()

    def emit(self, record: logging.LogRecord) -> None:
        progress = getattr(record, "search_progress", None)
        if progress is not None:
            self._show_search(progress)
        elif match := self._NODE.match(record.getMessage()):
            self._show_node(match[1], is_finished=match[2] == "finished")

    def _show_node(self, node: str, is_finished: bool) -> None:
        if is_finished:
            self._console.print(f"  {node:<20} {time.monotonic() - self._began:6.1f} s")
            return
        self._node, self._began, self._part = node, time.monotonic(), 0
        if self._status is not None:
            self._status.update(f"{node} ...")

    def _show_search(self, p: dict) -> None:
        at = f"step {p['step']:,}" + (f"/{p['max_steps']:,}" if p["max_steps"] else "")
        if p["look"]:
            at = f"look {p['look']}/{p['max_looks']}, {at}"
        # Of the plan: dimgrow may hold somewhat more while it searches.
        budget = f", budget {p['max_parameters']:,}" if p["max_parameters"] else ""
        loss = "" if p["loss"] is None else f" | loss {p['loss']:.4f}"
        held_out = "" if p["validation_loss"] is None else f" | held-out loss {p['validation_loss']:.4f}"
        eta = "" if p["eta_s"] is None else f" | at most {p['eta_s']} s left"
        text = (
            f"DimSearch {at} | {p['rows_per_s']:,} rows/s{loss}{held_out} | {p['total_dims']} dimensions"
            f" | {p['parameters']:,} parameters{budget}{eta}"
        )
        if self._status is not None:
            self._status.update(text)
            return
        if p["max_steps"]:
            part = 10 * p["step"] // p["max_steps"]
        elif p["max_looks"]:
            part = 10 * (p["look"] or 0) // p["max_looks"]
        else:
            part = p["step"].bit_length()  # of unknown length: a line whenever the steps double
        if part > self._part:
            self._part = part
            self._console.print(f"    {text}")
