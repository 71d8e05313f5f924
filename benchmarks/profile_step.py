"""Where the time of a training step goes, by kind of operation, as the TensorFlow profiler saw it.

Criteo profile, 39 fields, 1.1M rows. `python benchmarks/profile_step.py [--model search] [--batch-size 8192]`
"""

import argparse
import collections
import glob
import os
import tempfile

import rich.console
import rich.table
import tensorflow as tf
from criteo_profile import make_batches, make_fields
from search_step import MODELS, TOTAL_ROWS
from tensorflow.tsl.profiler.protobuf import xplane_pb2

STEPS = 20
# Spans of the executor itself, around operations.
EXECUTOR = ("Process", "Run", "RunAsync", "Start", "Done", "OptionalHasValue", "OptionalGetValue")


def profile(name: str, batch_size: int) -> tuple[dict[str, list[float]], float]:
    """Milliseconds a step and number of calls of each kind of operation, and milliseconds of the step."""
    fields = make_fields(TOTAL_ROWS)
    model, batches = MODELS[name](fields), iter(make_batches(fields, batch_size))
    model.make_train_function()
    step = model.train_function
    for _ in range(10):
        step(batches)
    with tempfile.TemporaryDirectory() as directory:
        tf.profiler.experimental.start(directory)
        for number in range(STEPS):
            with tf.profiler.experimental.Trace("train", step_num=number, _r=1):
                step(batches)
        tf.profiler.experimental.stop()
        (path,) = glob.glob(os.path.join(directory, "**", "*.xplane.pb"), recursive=True)
        space = xplane_pb2.XSpace()
        with open(path, "rb") as file:
            space.ParseFromString(file.read())
    kinds: dict[str, list[float]] = collections.defaultdict(lambda: [0.0, 0.0])
    step_ms = []
    for plane in space.planes:
        names = {key: value.name for key, value in plane.event_metadata.items()}
        for line in plane.lines:
            for event in line.events:
                label, ms = names[event.metadata_id], event.duration_ps / 1e9
                if label == "train":
                    step_ms.append(ms)
                elif ":" in label and not label.startswith(("$", "ThreadpoolListener", "Iterator")):
                    kind = label.rsplit(":", 1)[1].split("#")[0].strip()  # "path/of/the/op:Kind"
                    if kind in EXECUTOR or kind.startswith("__inference"):
                        continue
                    kinds[kind][0] += ms / STEPS
                    kinds[kind][1] += 1 / STEPS
    return kinds, sum(step_ms) / len(step_ms)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=sorted(MODELS), default="search")
    parser.add_argument("--batch-size", type=int, default=8192)
    arguments = parser.parse_args()
    kinds, step_ms = profile(arguments.model, arguments.batch_size)
    table = rich.table.Table("operation", title=f"{arguments.model}, B={arguments.batch_size}: {step_ms:.2f} ms a step")
    table.add_column("calls a step", justify="right")
    table.add_column("CPU ms a step", justify="right")
    for kind, (ms, calls) in sorted(kinds.items(), key=lambda item: -item[1][0])[:25]:
        table.add_row(kind, f"{calls:.0f}", f"{ms:.2f}")
    table.add_row("all", f"{sum(c for _, c in kinds.values()):.0f}", f"{sum(ms for ms, _ in kinds.values()):.2f}")
    rich.console.Console().print(table)
