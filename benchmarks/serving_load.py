"""Drives a server over gRPC from a second process: `python benchmarks/serving_speed.py --server`.

The server is `python -m serving local`: TF Serving's own binary where there is one, else the stand-in for development, whose
throughput says nothing of TF Serving's. Server and clients share the machine. Each connection is a thread with a channel of its
own that sends one request after the other. Connections and batch sizes are the same for both models, and interleaved.
"""

import argparse
import concurrent.futures
import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator

import grpc
import numpy as np
import rich.console
import rich.table
import tensorflow as tf
from harness import Figure, conclude, describe_machine, write_json
from serving_models import export_all, make_requests
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

CONNECTIONS = (1, 8, 32)
BATCH_SIZES = (1, 32, 512)
MODELS = ("plan_float32", "uniform_fused")
REPOSITORY = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
FIGURES = [Figure("errors of all requests", 0, 0)]


@contextlib.contextmanager
def serve(path: str) -> Iterator[str]:
    """host:port of a server of this model, in a process of its own."""
    command = [sys.executable, "-m", "serving", "local", path, "--port", "0", "--rest-port", "0"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=REPOSITORY)
    try:
        for line in server.stdout:
            if line.startswith("gRPC "):
                yield line.split()[1].removeprefix("grpc://")
                return
        raise SystemExit(f"`{' '.join(command[1:])}` did not start; run it to see why.")
    finally:
        server.terminate()
        server.wait()


def make_messages(batch_size: int) -> list[predict_pb2.PredictRequest]:
    messages = []
    for columns in make_requests(batch_size, 20):
        message = predict_pb2.PredictRequest()
        message.model_spec.name = "default"
        message.model_spec.signature_name = "serving_default"
        for name, ids in columns.items():
            message.inputs[name].CopyFrom(tf.make_tensor_proto(ids))
        messages.append(message)
    return messages


def ask(address: str, messages: list[predict_pb2.PredictRequest], seconds: float) -> tuple[list[float], int]:
    """Seconds of each request that was answered in this time, and how many failed."""
    latencies, num_errors = [], 0
    with grpc.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        grpc.channel_ready_future(channel).result(timeout=60)
        end = time.perf_counter() + seconds
        while (begin := time.perf_counter()) < end:
            message = messages[(len(latencies) + num_errors) % len(messages)]
            try:
                response = stub.Predict(message, timeout=60)
            except grpc.RpcError:
                num_errors += 1
                continue
            latencies.append(time.perf_counter() - begin)
            num_errors += tf.make_ndarray(response.outputs["outputs"]).shape[1:] != (1,)
    return latencies, num_errors


def drive(address: str, connections: int, batch_size: int, seconds: float) -> dict[str, float]:
    """What so many connections saw: milliseconds, rows a second, errors."""
    messages = make_messages(batch_size)
    with concurrent.futures.ThreadPoolExecutor(connections) as pool:
        parts = list(pool.map(lambda _: ask(address, messages, seconds), range(connections)))
    latencies = [latency for part, _ in parts for latency in part]
    p50, p99 = 1000 * np.percentile(latencies, [50, 99]) if latencies else (float("nan"), float("nan"))
    num_errors = sum(errors for _, errors in parts)
    rows_per_second = len(latencies) * batch_size / seconds
    return {"p50_ms": p50, "p99_ms": p99, "rows_per_s": rows_per_second, "errors": num_errors}


def main() -> int:
    parser = argparse.ArgumentParser(description="A server under load")
    parser.add_argument("--seconds", type=float, default=4.0, help="for each cell of the table (default: %(default)s)")
    parser.add_argument(
        "--output",
        default=os.path.join("runs", "benchmarks", "serving_load.json"),
        help="JSON with all results (default: %(default)s)",
    )
    arguments = parser.parse_args()
    console = rich.console.Console(highlight=False, soft_wrap=True)
    machine = describe_machine(seconds=arguments.seconds)
    console.print("A server under load, Criteo profile")
    console.print(", ".join(f"{key} {value}" for key, value in machine.items()))
    results = {}
    with tempfile.TemporaryDirectory() as directory, contextlib.ExitStack() as stack:
        export_all(directory)
        addresses = {model: stack.enter_context(serve(os.path.join(directory, model))) for model in MODELS}
        for connections in CONNECTIONS:
            for batch_size in BATCH_SIZES:
                for model, address in addresses.items():
                    drive(address, 1, batch_size, 0.3)  # the first requests of a size are slower
                    key = f"{model}, {connections} connections, batch {batch_size}"
                    results[key] = drive(address, connections, batch_size, arguments.seconds)
    write_json(arguments.output, {"machine": machine, "results": results})
    table = rich.table.Table("")
    for heading in ("p50 ms", "p99 ms", "rows/s", "errors"):
        table.add_column(heading, justify="right")
    for key, cell in results.items():
        numbers = (
            f"{cell['p50_ms']:.1f}",
            f"{cell['p99_ms']:.1f}",
            f"{cell['rows_per_s']:.0f}",
            f"{cell['errors']:.0f}",
        )
        table.add_row(key, *numbers)
    console.print(table)
    return conclude(console, FIGURES, {FIGURES[0].name: [sum(cell["errors"] for cell in results.values())]})
