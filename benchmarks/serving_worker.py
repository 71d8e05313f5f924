"""A process that serves one model to serving_speed.py: times its loading, then blocks of calls, one for each line of input."""

import json
import os
import sys
import time

import numpy as np
from native_session import NativeSession


def load(path: str, tensors: dict, columns: dict[str, np.ndarray]) -> tuple[NativeSession, dict[str, float]]:
    """The model at `path`, loaded, and milliseconds from the call that loads to the answer for one row: wall and CPU time."""
    for folder, _, files in os.walk(path):  # into the page cache, for every model alike
        for file in files:
            with open(os.path.join(folder, file), "rb") as stream:
                stream.read()
    begin, cpu_begin = time.perf_counter(), time.process_time()
    session = NativeSession(path, list(tensors["inputs"].values()), tensors["output"])
    loaded = time.perf_counter()
    session.run(session.make_feeds([columns[key] for key in tensors["inputs"]]))
    end, cpu_end = time.perf_counter(), time.process_time()
    return session, {
        "load_ms": 1000 * (loaded - begin),
        "first_answer_ms": 1000 * (end - begin),
        "first_answer_cpu_ms": 1000 * (cpu_end - cpu_begin),
    }


def serve(directory: str, name: str, start: str) -> None:
    """Writes what loading took, one line of JSON; then, for each line "batch size, calls", microseconds of a call.

    Args:
        directory: what serving_models.py wrote.
        name: of the model.
        start: "warm": another model is loaded and run before, so that TensorFlow has started; "cold": none is.
    """
    with open(os.path.join(directory, "tensors.json"), encoding="utf-8") as stream:
        tensors = json.load(stream)
    with np.load(os.path.join(directory, "requests.npz")) as stored:
        requests = dict(stored)

    def request(index: int, model: str) -> dict[str, np.ndarray]:
        return {key: requests[f"1_{key}"][index] for key in tensors[model]["inputs"]}

    if start == "warm":
        load(os.path.join(directory, "other", "1"), tensors["other"], request(0, "other"))
    session, loading = load(os.path.join(directory, name, "1"), tensors[name], request(0, name))
    _answer(loading)
    feeds = {}
    for line in sys.stdin:
        batch_size, num_calls = map(int, line.split())
        if batch_size not in feeds:
            columns = zip(*[requests[f"{batch_size}_{key}"] for key in tensors[name]["inputs"]], strict=True)
            feeds[batch_size] = [session.make_feeds(request) for request in columns]
        _answer(time_calls(session, feeds[batch_size], num_calls))


def time_calls(session: NativeSession, feeds: list, num_calls: int) -> dict[str, float]:
    """Median and 99th percentile of calls, and CPU time of all threads of one, microseconds."""
    seconds, cpu_begin = [], time.process_time()
    for index in range(num_calls):
        begin = time.perf_counter()
        session.run(feeds[index % len(feeds)])
        seconds.append(time.perf_counter() - begin)
    cpu = time.process_time() - cpu_begin
    p50, p99 = 1e6 * np.percentile(seconds, [50, 99])
    return {"p50_us": p50, "p99_us": p99, "cpu_us": 1e6 * cpu / num_calls}


def _answer(results: dict[str, float]) -> None:
    sys.stdout.write(json.dumps(results) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    serve(*sys.argv[1:])
