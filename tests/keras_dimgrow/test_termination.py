"""SIGTERM, which schedulers send before they take a machine: a checkpoint, an exit status, the same plan after a restart."""

import json
import os
import pathlib
import signal
import subprocess
import sys

import numpy as np
import pytest

from keras_dimgrow.interrupts import terminations_noted

ROOT = pathlib.Path(__file__).parents[2]


def search(directory, *signal_step):
    return subprocess.run(
        [sys.executable, "-m", "tests.keras_dimgrow.termination_run", str(directory), *map(str, signal_step)],
        cwd=ROOT,
        env=os.environ | {"CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "2"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_a_search_that_is_terminated_saves_itself_and_goes_on_to_the_same_plan(tmp_path):
    expected = json.loads(search("").stdout)

    terminated = search(tmp_path / "search", 16)
    again = json.loads(search(tmp_path / "search").stdout)

    assert terminated.returncode == 128 + signal.SIGTERM, terminated.stderr[-3000:]
    assert "SIGTERM: the search ends at step 1" in terminated.stderr
    assert expected["new_steps"] == [10, 20, 30, 40]
    assert again["new_steps"] == [20, 30, 40]  # terminated amid the second of four stretches, and not trained again
    assert again["plan"] == expected["plan"]
    for gains, expected_gains in zip(again["gains"], expected["gains"], strict=True):
        for name, values in expected_gains.items():
            np.testing.assert_allclose(gains[name], values, atol=1e-6)


def test_a_signal_that_came_too_late_to_be_noted_is_raised_when_the_work_is_done():
    received = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: received.append(number))
    try:
        with terminations_noted() as termination:
            signal.raise_signal(signal.SIGTERM)
            assert termination.is_requested
            assert received == []
    finally:
        signal.signal(signal.SIGTERM, before)

    assert received == [signal.SIGTERM]


@pytest.mark.parametrize("is_requested", [False, True])
def test_the_handler_that_was_there_comes_back(is_requested):
    def handler(number, frame):
        pass

    before = signal.signal(signal.SIGTERM, handler)
    try:
        with terminations_noted() as termination:
            termination.is_requested = is_requested
        assert signal.getsignal(signal.SIGTERM) is handler
    finally:
        signal.signal(signal.SIGTERM, before)
