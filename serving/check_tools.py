"""Runs a SavedModel's signatures by other programs, each in a process of its own: TensorFlow's CLI, TFX's RunInference."""

import concurrent.futures
import contextlib
import dataclasses
import importlib.util
import json
import os
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from serving import tool_process

TOOLS = ("saved_model_cli", "RunInference")
_TIMEOUT_S = 600


@dataclasses.dataclass(frozen=True)
class Job:
    """One batch for one signature: {input: [B, ...]}, and its label."""

    signature: str
    label: str
    inputs: Mapping[str, np.ndarray]
    is_examples: bool


@dataclasses.dataclass(frozen=True)
class Answer:
    """What a tool made of a job: {output: [B, ...]}, or the error."""

    job: Job
    outputs: dict[str, np.ndarray]
    error: str


@contextlib.contextmanager
def start_tools(directory: str, jobs: Sequence[Job], tools: Sequence[str]) -> Iterator[dict]:
    """Starts a process for each tool; {tool: future of its list of Answers} while they run.

    A tool that is not installed is left out; RunInference only takes jobs of serialized tf.Examples. At the end of the
    block, and at once after an error in it, unfinished processes are ended.
    """
    with tempfile.TemporaryDirectory() as temporary, concurrent.futures.ThreadPoolExecutor() as threads:
        running: list[subprocess.Popen] = []
        futures = {}
        try:
            for tool in tools:
                taken = [job for job in jobs if job.is_examples or tool != "RunInference"]
                if taken and (tool != "RunInference" or importlib.util.find_spec("tfx_bsl")):
                    folder = pathlib.Path(temporary, tool)
                    running.append(_start(tool, directory, taken, folder))
                    futures[tool] = threads.submit(_collect, running[-1], taken, folder)
            yield futures
        finally:
            for process in running:
                process.kill()


def _start(tool: str, directory: str, jobs: Sequence[Job], folder: pathlib.Path) -> subprocess.Popen:
    descriptions = []
    for index, job in enumerate(jobs):
        outputs = folder / str(index)
        (outputs / "inputs").mkdir(parents=True)
        paths = {}
        for number, (name, values) in enumerate(job.inputs.items()):
            paths[name] = str(outputs / "inputs" / f"{number}.npy")
            np.save(paths[name], values)
        descriptions.append({"signature": job.signature, "inputs": paths, "outputs": str(outputs)})
    (folder / "jobs.json").write_text(json.dumps(descriptions), encoding="utf-8")
    # On the CPU, so that a check takes no accelerator's memory. -P: this file's folder is no place to import from.
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-P", tool_process.__file__, tool, directory, str(folder / "jobs.json")]
    with (folder / "log").open("w") as log:
        return subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment)


def _collect(process: subprocess.Popen, jobs: Sequence[Job], folder: pathlib.Path) -> list[Answer]:
    try:
        status = process.wait(_TIMEOUT_S)
        failure = f"exit status {status}" if status else ""
    except subprocess.TimeoutExpired:
        process.kill()
        failure = f"no answer after {_TIMEOUT_S} s"
    if failure:
        lines = [line for line in (folder / "log").read_text(errors="replace").splitlines() if line.strip()]
        failure = f"{failure}: {lines[-1] if lines else 'it said nothing'}"
    answers = []
    for index, job in enumerate(jobs):
        files = sorted((folder / str(index)).glob("*.npy"))
        # Strings come as pickled objects, from processes that were started here.
        outputs = {file.stem: np.load(file, allow_pickle=True) for file in files}
        told = folder / str(index) / "error.txt"
        error = told.read_text(encoding="utf-8") if told.exists() else failure
        answers.append(Answer(job, outputs, error))
    return answers
