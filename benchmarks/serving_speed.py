"""A served model: latency, bytes and loading of a plan of 20% against uniform 16; and a server under load.

Criteo profile: 39 fields, 1M rows in all, Zipf ids, int64 ids in (the vocabularies of a Transform graph would cost each model
the same). `python benchmarks/serving_speed.py`: about 5 minutes on 2 cores; the server alone, `--server`: 3 minutes.

Models (serving_models.py): a plan of 20% (no field removed) with tables in float32, float16 and int8; uniform 16, exported
the same way; uniform 16 with one Embedding a field, as people write it.

Each model is loaded and run by TensorFlow's C++ Session, as in TF Serving (native_session.py): in Python, naming 39 feeds takes
0.6 ms a call, which would hide what differs. First answer: from the call that loads to the answer for one row, in a fresh
process, with files in the page cache and TensorFlow's library loaded.

Not called serving.py: benchmarks run with this folder first on their path, and it would hide the package `serving`.
"""

import functools
import os
import subprocess
import sys
import tempfile
import time

import numpy as np
from harness import Figure, main
from native_session import NativeSession, read_tensor_names

# Not imported from serving_models: what is timed here should not wait for Keras.
NAMES = ("plan_float32", "plan_float16", "plan_int8", "uniform_fused", "uniform_separate")
NUM_CALLS = {512: 300, 32: 1500, 1: 3000}
DIRECTORY = "BENCHMARK_SERVING_MODELS"


def measure(name: str) -> dict[str, float]:
    """One model in this process: milliseconds to the first answer; p50 and p99 of a call, microseconds; bytes.

    And the same in CPU time of all threads, which other work on the machine disturbs less; it has no must.
    """
    path = os.path.join(os.environ[DIRECTORY], name, "1")
    files = [os.path.join(folder, file) for folder, _, files in os.walk(path) for file in files]
    inputs, output = read_tensor_names(path)
    requests = dict(np.load(os.path.join(os.environ[DIRECTORY], "requests.npz")))
    for file in files:  # into the page cache, for every model alike
        with open(file, "rb") as stream:
            stream.read()
    begin, cpu_begin = time.perf_counter(), time.process_time()
    session = NativeSession(path, list(inputs.values()), output)
    session.run(session.make_feeds([requests[f"1_{key}"][0] for key in inputs]))
    results = {
        "first_answer_ms": 1000 * (time.perf_counter() - begin),
        "first_answer_cpu_ms": 1000 * (time.process_time() - cpu_begin),
    }
    for batch_size, num_calls in NUM_CALLS.items():
        columns = zip(*[requests[f"{batch_size}_{key}"] for key in inputs], strict=True)
        feeds = [session.make_feeds(request) for request in columns]
        seconds, cpu_begin = [], time.process_time()
        for index in range(num_calls):
            begin = time.perf_counter()
            session.run(feeds[index % len(feeds)])
            seconds.append(time.perf_counter() - begin)
        p50, p99 = 1e6 * np.percentile(seconds[len(feeds) // 2 :], [50, 99])
        cpu = 1e6 * (time.process_time() - cpu_begin) / num_calls
        results |= {f"p50_us_{batch_size}": p50, f"p99_us_{batch_size}": p99, f"cpu_us_{batch_size}": cpu}
    return results | {"bytes": float(sum(os.path.getsize(file) for file in files))}


CASES = {name: functools.partial(measure, name) for name in NAMES}


def ratio(key: str, model: str, against: str):
    return lambda results: results[model][key] / results[against][key]


LATENCY = {512: (0.70, 0.50), 32: (0.95, 0.80), 1: (1.05, 0.95)}
FIGURES = [
    *(
        Figure(
            f"p50, B={size}: plan / fused uniform 16", *limits, ratio(f"p50_us_{size}", "plan_float32", "uniform_fused")
        )
        for size, limits in LATENCY.items()
    ),
    Figure("p50, B=512: plan / separate uniform 16", 0.6, 0.4, ratio("p50_us_512", "plan_float32", "uniform_separate")),
    Figure("bytes: plan / uniform 16", 0.25, 0.22, ratio("bytes", "plan_float32", "uniform_fused")),
    Figure("bytes: plan in int8 / uniform 16", 0.08, 0.072, ratio("bytes", "plan_int8", "uniform_fused")),
    Figure(
        "first answer: plan / fused uniform 16", 0.6, 0.3, ratio("first_answer_ms", "plan_float32", "uniform_fused")
    ),
]

if __name__ == "__main__":
    if "--server" in sys.argv:
        import serving_load

        sys.argv.remove("--server")
        sys.exit(serving_load.main())
    with tempfile.TemporaryDirectory() as directory:
        if "--case" not in sys.argv:
            os.environ[DIRECTORY] = directory
            exporter = os.path.join(os.path.dirname(os.path.abspath(__file__)), "serving_models.py")
            subprocess.run([sys.executable, exporter, directory], check=True, stderr=subprocess.DEVNULL)
        sys.exit(main(__file__, "Serving a plan of 20%, Criteo profile", CASES, FIGURES))
