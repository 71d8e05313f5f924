"""ChunkedEmbedding (FIITED): bytes, training step and look-up at serving, against a uniform table of 32 dimensions.

Criteo profile: 39 fields, 1.1M rows in all, Zipf ids; 75% of the chunks pruned, a pruning every 100 steps. The uniform model
has one fused table (PlannedEmbedding), the same adapter and backbone. `python benchmarks/fiited.py`: about 30 minutes on 2
cores.

- Bytes: variables of the layer's stores and the optimizer's slots for their pools, against table and slots.
- Training step: 100 steps inside plain `fit`, the second pruning among them, after 200 steps with the first one.
- Look-up: the embeddings of 39 inputs, [512, 39, 32], as they are served: both models through `with_storage`, their look-ups
  exported and flattened as `serving.export` does it, after training has spread the chunks. TensorFlow's C++ Session runs both
  in one process, 20 calls of each a turn, 60 turns; the figure is the median of the turns' ratios.
"""

import functools
import os
import statistics
import sys
import tempfile

import keras
import numpy as np
import tensorflow as tf
from criteo_profile import ADAPTER_WIDTH, StepTimer, make_batches, make_fields
from harness import SEED, Figure, main
from native_session import NativeSession
from serving_models import export, read_tensor_names
from serving_worker import time_calls

import keras_dimgrow as kd

TOTAL_ROWS = 1_100_000
DIM = 32
PRUNING_RATIO = 0.75
BATCH_SIZE = 2048
SERVED_BATCH_SIZE = 512
WARM_UP, STEPS = 101, 100
CALLS, TURNS = 20, 60
CHUNKS = (2, 4, 8)
OPTIMIZERS = {"lazy_adam": kd.LazyAdam, "keras_adam": keras.optimizers.Adam}


def make_model(num_chunks: int | None, optimizer: str) -> kd.RankingModel:
    """The model with rows in `num_chunks` chunks, or None: the uniform one."""
    fields = make_fields(TOTAL_ROWS)
    if num_chunks is None:
        layer = kd.PlannedEmbedding(kd.EmbeddingPlan.uniform(fields, DIM), ADAPTER_WIDTH, seed=SEED)
    else:
        config = kd.ChunkConfig(chunks=num_chunks, pruning_ratio=PRUNING_RATIO)
        layer = kd.ChunkedEmbedding(fields, config, ADAPTER_WIDTH, seed=SEED)
    model = kd.build_model(layer, kd.ModelConfig(adapter_width=ADAPTER_WIDTH), seed=SEED)
    model.compile(OPTIMIZERS[optimizer](1e-3), "binary_crossentropy", jit_compile=False)
    return model


def time_step(num_chunks: int | None, optimizer: str) -> dict[str, float]:
    """Mean milliseconds of a training step."""
    model, timer = make_model(num_chunks, optimizer), StepTimer()
    batches = make_batches(make_fields(TOTAL_ROWS), BATCH_SIZE)
    model.fit(batches, epochs=3, steps_per_epoch=STEPS, verbose=0, shuffle=False, callbacks=[timer])
    return {"ms": 1000 * timer.seconds[-1] / STEPS}


def time_look_up() -> dict[str, float]:
    """Microseconds of a served look-up, medians; and the median of the ratios within a turn: in chunks / plain."""
    fields = make_fields(TOTAL_ROWS)
    chunked, plain = make_model(2, "lazy_adam"), make_model(None, "lazy_adam")
    chunked.fit(make_batches(fields, BATCH_SIZE), steps_per_epoch=WARM_UP, verbose=0, shuffle=False)
    chunked, plain = kd.with_storage(chunked), kd.with_storage(plain)
    calls = {
        "chunked": (chunked, lambda ids, training: chunked.embedding.embed(ids)[0]),
        "plain": (plain, lambda ids, training: plain.embedding._embed(ids)[DIM][0]),
    }
    requests = [ids for ids, _ in make_batches(fields, SERVED_BATCH_SIZE, seed=1).take(CALLS)]
    timers = {}
    with tempfile.TemporaryDirectory() as directory:
        for name, (model, call) in calls.items():
            path = os.path.join(directory, name)
            export(call, model, fields, path)
            tensors = read_tensor_names(path)
            session = NativeSession(path, list(tensors["inputs"].values()), tensors["output"])
            feeds = [session.make_feeds([ids[key].numpy() for key in tensors["inputs"]]) for ids in requests]
            timers[name] = functools.partial(time_calls, session, feeds, CALLS)
    turns = []
    for turn in range(TURNS + 1):
        # Every other turn backwards: neither always follows the other's reads.
        names = tuple(timers) if turn % 2 else tuple(timers)[::-1]
        turns.append({name: timers[name]() for name in names})
    del turns[0]  # in it, tables come into memory
    result = {f"{name}_us": statistics.median(turn[name]["p50_us"] for turn in turns) for name in timers}
    for key in ("p50_us", "cpu_us"):
        result[f"ratio_{key}"] = statistics.median(turn["chunked"][key] / turn["plain"][key] for turn in turns)
    return result


def count_bytes(num_chunks: int | None) -> dict[str, float]:
    """Bytes of the embeddings, with all that belongs to them, and of the optimizer's slots."""
    model = make_model(num_chunks, "keras_adam")
    model.optimizer.build(model.trainable_variables)
    kernel = model.embedding.kernel
    embeddings = [variable for variable in model.embedding.variables if variable is not kernel]
    trained = {variable.path.replace("/", "_") for variable in embeddings if variable.trainable}
    slots = [slot for slot in model.optimizer.variables if any(path in slot.path for path in trained)]
    sizes = [np.prod(v.shape) * tf.as_dtype(v.dtype).size for v in (*embeddings, *slots)]
    return {"bytes": float(sum(sizes)), "variables": float(len(sizes))}


CASES = {
    f"step_{name}_{chunks or 'uniform'}": functools.partial(time_step, chunks, name)
    for name in OPTIMIZERS
    for chunks in (None, *CHUNKS)
} | {
    "look_up": time_look_up,
    "bytes_uniform": functools.partial(count_bytes, None),
    "bytes_2": functools.partial(count_bytes, 2),
}


def ratio(case: str, chunks: int, key: str = "ms"):
    return lambda results: results[f"{case}_{chunks}"][key] / results[f"{case}_uniform"][key]


STEP_LIMITS = {2: (1.4, 1.0), 4: (1.7, 1.2), 8: (2.2, 1.5)}
FIGURES = [
    Figure("bytes with Adam's slots, K=2, 75% pruned / uniform 32", 0.35, 0.30, ratio("bytes", 2, "bytes")),
    *(
        Figure(f"training step, {name}, K={chunks} / uniform", *limits, ratio(f"step_{name}", chunks))
        for name in OPTIMIZERS
        for chunks, limits in STEP_LIMITS.items()
    ),
    Figure(
        f"look-up at serving, B={SERVED_BATCH_SIZE}, K=2 / plain table",
        1.3,
        1.1,
        lambda results: results["look_up"]["ratio_p50_us"],
    ),
]

if __name__ == "__main__":
    sys.exit(main(__file__, "FIITED's store against a uniform table, Criteo profile", CASES, FIGURES))
