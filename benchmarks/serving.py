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
import sys
import tempfile
import time

import numpy as np
import serving_load
import tensorflow as tf
from harness import Figure, main
from native_session import NativeSession, read_tensor_names
from serving_models import NAMES, count_bytes, export_all, make_requests

MODELS = "BENCHMARK_SERVING_MODELS"
BATCH_SIZES = (512, 32, 1)
NUM_CALLS = {512: 300, 32: 1500, 1: 3000}


def version_of(name: str) -> str:
    return os.path.join(os.environ[MODELS], name, "1")


def time_calls(name: str) -> dict[str, float]:
    """Microseconds of a call in a Session, p50 and p99 by batch size; bytes of the SavedModel."""
    session = tf.compat.v1.Session(graph=tf.Graph(), config=tf.compat.v1.ConfigProto(device_count={"GPU": 0}))
    with session.graph.as_default():
        loaded = tf.compat.v1.saved_model.load(session, ["serve"], version_of(name))
        signature = loaded.signature_def["serving_default"]
        keys = sorted(signature.inputs)
        call = session.make_callable(
            signature.outputs["outputs"].name,
            [session.graph.get_tensor_by_name(signature.inputs[k].name) for k in keys],
        )
    results = {"bytes": float(count_bytes(version_of(name)))}
    for batch_size in BATCH_SIZES:
        requests = [[request[key] for key in keys] for request in make_requests(batch_size, 100)]
        seconds = []
        for index in range(NUM_CALLS[batch_size]):
            begin = time.perf_counter()
            call(*requests[index % len(requests)])
            seconds.append(time.perf_counter() - begin)
        p50, p99 = np.percentile(seconds[len(requests) // 2 :], [50, 99])
        results |= {f"p50_us_{batch_size}": 1e6 * p50, f"p99_us_{batch_size}": 1e6 * p99}
    return results


def time_loading(name: str) -> dict[str, float]:
    """Milliseconds from loading to the first answer, in this fresh process."""
    names = read_tensor_names(version_of(name))
    with open(os.path.join(version_of(name), "variables", "variables.data-00000-of-00001"), "rb") as file:
        file.read()  # into the page cache, for every model alike
    begin = time.perf_counter()
    NativeSession(version_of(name), *names).answer()
    return {"first_answer_ms": 1000 * (time.perf_counter() - begin)}


CASES = {f"calls_{name}": functools.partial(time_calls, name) for name in NAMES} | {
    f"loading_{name}": functools.partial(time_loading, name) for name in NAMES
}


def ratio(kind: str, key: str, model: str, against: str):
    return lambda results: results[f"{kind}_{model}"][key] / results[f"{kind}_{against}"][key]


LATENCY = {512: (0.70, 0.50), 32: (0.95, 0.80), 1: (1.05, 0.95)}
FIGURES = [
    *(
        Figure(f"p50, B={size}: plan / fused uniform 16", *LATENCY[size], ratio("calls", f"p50_us_{size}", *pair))
        for pair in [("plan_float32", "uniform_fused")]
        for size in BATCH_SIZES
    ),
    Figure(
        "p50, B=512: plan / separate uniform 16",
        0.60,
        0.40,
        ratio("calls", "p50_us_512", "plan_float32", "uniform_separate"),
    ),
    Figure("bytes: plan / uniform 16", 0.25, 0.22, ratio("calls", "bytes", "plan_float32", "uniform_fused")),
    Figure("bytes: plan, int8 / uniform 16", 0.08, 0.07, ratio("calls", "bytes", "plan_int8", "uniform_fused")),
    Figure(
        "load to first answer: plan / fused uniform 16",
        0.60,
        0.30,
        ratio("loading", "first_answer_ms", "plan_float32", "uniform_fused"),
    ),
]

if __name__ == "__main__":
    if "--server" in sys.argv:
        sys.argv.remove("--server")
        sys.exit(serving_load.main())
    with tempfile.TemporaryDirectory() as directory:
        if "--case" not in sys.argv:
            os.environ[MODELS] = directory
            export_all(directory)
        sys.exit(main(__file__, "Serving a plan of 20%, Criteo profile", CASES, FIGURES))
