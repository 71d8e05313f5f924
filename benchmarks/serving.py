"""A served model: latency, bytes and loading of a plan of 20% against uniform 16; and a server under load.

Criteo profile: 39 fields, 1M rows in all, Zipf ids, int64 ids in (the vocabularies of a Transform graph would cost each model
the same). `python benchmarks/serving.py`: about 5 minutes on 2 cores; the server alone, `--server`: 3 minutes.

Models (serving_models.py): a plan of 20% (no field removed) with tables in float32, float16 and int8; uniform 16, exported
the same way; uniform 16 with one Embedding a field, as people write it.

Latency: a tf.compat.v1 Session whose feeds and fetches are named once (`make_callable`): naming them in each call costs
0.6 ms of Python for 39 feeds, which TF Serving does not have. Loading: TensorFlow's C++ loader, in a fresh process, from the
call to the first answer; files in the page cache; TensorFlow's library itself is loaded before.
"""

import functools
import os
import subprocess
import sys
import tempfile
import time

import numpy as np
import tensorflow as tf
from harness import Figure, main
from native_session import NativeSession, read_tensor_names

# Not imported from serving_models: what is timed here should not wait for Keras.
NAMES = ("plan_float32", "plan_float16", "plan_int8", "uniform_fused", "uniform_separate")
NUM_CALLS = {512: 300, 32: 1500, 1: 3000}
DIRECTORY = "BENCHMARK_SERVING_MODELS"


def measure(name: str) -> dict[str, float]:
    """One model in this process: milliseconds to the first answer; p50 and p99 of a call, microseconds; bytes."""
    path = os.path.join(os.environ[DIRECTORY], name, "1")
    files = [os.path.join(folder, file) for folder, _, files in os.walk(path) for file in files]
    tensors = read_tensor_names(path)
    for file in files:  # into the page cache, for every model alike
        with open(file, "rb") as stream:
            stream.read()
    begin = time.perf_counter()
    NativeSession(path, *tensors).answer()
    results = {"first_answer_ms": 1000 * (time.perf_counter() - begin)}

    session = tf.compat.v1.Session(graph=tf.Graph(), config=tf.compat.v1.ConfigProto(device_count={"GPU": 0}))
    with session.graph.as_default():
        signature = tf.compat.v1.saved_model.load(session, ["serve"], path).signature_def["serving_default"]
        keys = sorted(signature.inputs)
        feeds = [session.graph.get_tensor_by_name(signature.inputs[key].name) for key in keys]
        call = session.make_callable(signature.outputs["outputs"].name, feeds)
    requests = np.load(os.path.join(os.environ[DIRECTORY], "requests.npz"))
    for batch_size, num_calls in NUM_CALLS.items():
        columns = list(zip(*[requests[f"{batch_size}_{key}"] for key in keys], strict=True))
        seconds = []
        for index in range(num_calls):
            begin = time.perf_counter()
            call(*columns[index % len(columns)])
            seconds.append(time.perf_counter() - begin)
        p50, p99 = 1e6 * np.percentile(seconds[len(columns) // 2 :], [50, 99])
        results |= {f"p50_us_{batch_size}": p50, f"p99_us_{batch_size}": p99}
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
