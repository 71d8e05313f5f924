"""What test_termination.py runs in a process of its own: a search, its plan as JSON; `python -m ... DIRECTORY [SIGNAL_STEP]`.

With SIGNAL_STEP the process sends itself SIGTERM when so many steps are trained.
"""

import json
import os
import signal
import sys

import tensorflow as tf

import keras_dimgrow as kd
from tests.keras_dimgrow.conftest import Planted


def main(directory: str, signal_step: int = -1) -> dict:
    planted = Planted(1000)
    step = 0

    def count(ids, labels):
        nonlocal step
        step += 1
        if step == signal_step:
            os.kill(os.getpid(), signal.SIGTERM)
        return labels

    def watch(ids, labels):
        return ids, tf.ensure_shape(tf.numpy_function(lambda y: count(None, y), [labels], tf.float32), [None])

    records = []
    result = kd.search(
        planted.fields,
        planted.batches(100).map(watch, num_parallel_calls=1),
        planted.batches(250, False),
        parameter_budget=0.3,
        config=kd.DimGrowConfig(max_steps=40, num_looks=4, race=False, learning_rate=0.02),
        model_config=kd.ModelConfig(adapter_width=8, hidden_units=(8,)),
        checkpoint_directory=directory or None,
        on_check=records.append,
    )
    gains = [record["gains"] for record in result.trajectory]
    return {"plan": result.plan.dimensions, "gains": gains, "new_steps": [record["step"] for record in records]}


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], *map(int, sys.argv[2:]))))  # noqa: T201
