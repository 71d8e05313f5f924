"""What test_distribution.py runs in processes of its own, because TensorFlow's devices are fixed once it has started.

`python -m tests.keras_dimgrow.distributed_run mirrored` (or mirrored_quick, default_search) trains on two logical CPU
devices, `... single` on one; `... worker` (or default_search_worker) is one worker of the cluster in TF_CONFIG. Each prints
its measurements as one line of JSON.
"""

import contextlib
import functools
import hashlib
import json
import sys
import tempfile

import keras
import numpy as np
import tensorflow as tf

import keras_dimgrow as kd
from keras_dimgrow.distributed import on_one_device
from tests.keras_dimgrow.conftest import Planted

PLANTED = Planted(1000)
MODEL = kd.ModelConfig(adapter_width=8, hidden_units=(8,))
# Growth, drops and revivals in a few steps.
LIVELY = kd.GrowthConfig(grow_threshold=0.51, shrink_threshold=0.49, backoff_checks=1, revive_after_checks=2)


def make_model(optimizer=kd.LazyAdam, learning_rate=0.05, seed=1):
    layer = kd.DimGrowEmbedding(PLANTED.fields, 8, gate=kd.GateConfig(penalty=1e-3), seed=seed, name="embedding")
    model = kd.build_model(layer, MODEL, seed=1)
    model.compile(optimizer(learning_rate), "binary_crossentropy", metrics=["AUC"])
    return model


def state_of(model) -> list[keras.Variable]:
    return [*model.variables, *model.optimizer.variables]


def replicas_differ(variables) -> list[str]:
    """The variables that are not replicated, or whose replicas are not equal bit for bit."""
    replicas = {v.path: [r.numpy() for r in getattr(v.value, "values", ())] for v in variables}
    return [path for path, (first, *others) in replicas.items() if not all(np.array_equal(first, o) for o in others)]


def unreplicated(variables) -> list[str]:
    return [v.path for v in variables if not isinstance(v.value, tf.distribute.DistributedValues)]


def kinds_of(trajectory) -> list[str]:
    return sorted({event["action"] for record in trajectory for event in record["events"]})


def weights_of(model) -> list[list[float]]:
    """All values but shuffle seeds, which may differ where gates are at 1."""
    return [variable.numpy().ravel().tolist() for variable in state_of(model) if variable.name != "shuffle_seed"]


# Two logical devices.


def fit_and_grow(strategy, policy):
    """1001 rows in batches of 100: the last batch has one row, the second replica none of it."""
    keras.config.set_dtype_policy(policy)
    traces = []
    original = kd.DimGrowEmbedding.call

    @functools.wraps(original)
    def call(self, inputs, training=None):
        if training:
            traces.append(self)
        return original(self, inputs, training=training)

    kd.DimGrowEmbedding.call = call
    with strategy.scope():
        model = make_model()
    growth = kd.DimensionSearch(model.embedding, LIVELY, check_every=3)
    data = Planted(1001).batches(100)
    losses = model.fit(data, epochs=4, callbacks=[growth], verbose=0).history["loss"]
    kd.DimGrowEmbedding.call = original
    keras.config.set_dtype_policy("float32")
    return {
        "traces": len(traces) / strategy.num_replicas_in_sync,
        "kinds": kinds_of(growth.trajectory),
        "allocated": model.embedding.allocated_dims,
        "unreplicated": unreplicated(state_of(model)),
        "replicas_differ": replicas_differ(state_of(model)),
        "losses": losses,
        "predictions": len(model.predict(data, verbose=0)),
    }


def open_gates(layer, record=None):
    """Gates at exactly 1: the shuffles, which each replica makes of its own rows, have no effect."""
    layer.theta.assign(tf.fill(layer.theta.shape, 5.0))


def fit_with_open_gates(scope, optimizer):
    with scope:
        model = make_model(optimizer, 0.01)
    layer = model.embedding
    open_gates(layer)
    growth = kd.DimensionSearch(layer, check_every=3, on_check=functools.partial(open_gates, layer))
    history = model.fit(PLANTED.batches(100, False), epochs=2, callbacks=[growth], shuffle=False, verbose=0).history
    return model, {"losses": history["loss"], "dims": layer.used_dims(), "weights": weights_of(model)}


def single():
    return fit_with_open_gates(contextlib.nullcontext(), kd.LazyAdam)[1]


def rows_of_two_replicas(strategy):
    """Velocity after one step in which both replicas touch row 0, and one of them twice."""
    with strategy.scope():
        table = kd.GrowableVariable("zeros", (3, 1), (1,))
        optimizer = kd.LazyAdam(0.1)
        optimizer.build([table])

    def per_replica(*values):
        return strategy.experimental_distribute_values_from_function(
            lambda context: tf.constant(values[context.replica_id_in_sync_group])
        )

    def step(rows, values):
        optimizer.apply([tf.IndexedSlices(values, rows)], [table])

    gradients = per_replica([0, 0, 1], [0, 2]), per_replica([[1.0], [2.0], [3.0]], [[4.0], [5.0]])
    tf.function(lambda *arguments: strategy.run(step, arguments))(*gradients)
    velocity = dict(optimizer.slots_of(table))["velocity"]
    return {"velocity": velocity.numpy().ravel().tolist(), "replicas_differ": replicas_differ([table, velocity])}


def save_and_load(strategy, model):
    """How far the predictions of each copy of a grown, distributed model are from its own."""
    data = PLANTED.batches(500, False)
    expected = model.predict(data, verbose=0)
    copies = {}
    with tempfile.TemporaryDirectory() as directory:
        model.save(f"{directory}/model.keras")
        copies[".keras"] = keras.saving.load_model(f"{directory}/model.keras")
        model.save_weights(f"{directory}/model.weights.h5")
        saved = tf.train.Checkpoint(model=model, optimizer=model.optimizer).save(f"{directory}/checkpoint")
        for name, scope in (("single", contextlib.nullcontext()), ("mirrored", strategy.scope())):
            with scope:
                copy, other = make_model(), make_model()
                for new in (copy, other):
                    new.optimizer.build(new.trainable_variables)
            copy.load_weights(f"{directory}/model.weights.h5")
            checkpoint = tf.train.Checkpoint(model=other, optimizer=other.optimizer)
            checkpoint.restore(saved).assert_existing_objects_matched().expect_partial()
            copies |= {f"weights, {name}": copy, f"checkpoint, {name}": other}
    return {
        name: {
            "distance": float(np.abs(copy.predict(data, verbose=0) - expected).max()),
            "is_equal": all(np.array_equal(*pair) for pair in zip(values_of(copy), values_of(model), strict=True)),
            "replicas_differ": replicas_differ(state_of(copy)) if "mirrored" in name else [],
        }
        for name, copy in copies.items()
    }


def values_of(model):
    return [variable.numpy() for variable in state_of(model)]


class KilledError(Exception):
    """Stands for the end of the process."""


def search(strategy, directory=None, on_check=None):
    config = kd.DimGrowPaperConfig(
        max_steps=30,
        check_every=3,
        checkpoint_every=6,
        learning_rate=0.05,
        growth=LIVELY,
        gate=kd.GateConfig(penalty=1e-2),
    )
    with strategy.scope():
        return kd.search(
            PLANTED.fields,
            PLANTED.batches(100, False),
            PLANTED.batches(250, False),
            method="dimgrow_paper",
            config=config,
            model_config=MODEL,
            seed=1,
            checkpoint_directory=directory,
            on_check=on_check,
        )


def kill(record):
    if record["step"] == 15:
        raise KilledError


def comparable(trajectory):
    return [{k: v for k, v in r.items() if k not in ("seconds", "resident_bytes")} for r in trajectory]


def search_and_resume(strategy):
    expected = search(strategy)
    with tempfile.TemporaryDirectory() as directory:
        with contextlib.suppress(KilledError):
            search(strategy, directory, kill)
        resumed = search(strategy, directory)
    validation = kd.evaluate(resumed.model, PLANTED.batches(250, False))
    return {
        "kinds": kinds_of(expected.trajectory),
        "trajectories_equal": comparable(expected.trajectory) == comparable(resumed.trajectory),
        "values_equal": all(map(np.array_equal, values_of(expected.model), values_of(resumed.model))),
        "validation_rows": validation.num_rows,
        "validation_loss": validation.log_loss,
        "keras_validation_loss": float(
            keras.losses.binary_crossentropy(
                PLANTED.labels, resumed.model.predict(PLANTED.batches(250, False), verbose=0)[:, 0]
            )
        ),
    }


def retrain(strategy):
    plan = kd.EmbeddingPlan.from_dimensions(PLANTED.fields, {"left": 3, "noise": 0, "right": 2})
    config = kd.TrainingConfig(max_epochs=3, learning_rate=0.05)
    data = PLANTED.batches(100)
    with strategy.scope():
        result = kd.retrain(plan, data, PLANTED.batches(250, False), config=config, model_config=MODEL)
    copy = on_one_device(result.model)
    return {
        "log_loss": result.validation.log_loss,
        "replicas_differ": replicas_differ(state_of(result.model)),
        "log_loss_of_copy": kd.evaluate(copy, PLANTED.batches(250, False)).log_loss,
        "unreplicated_in_copy": len(unreplicated(copy.variables)) / len(copy.variables),
    }


def search_by_utilities(scope):
    """The default search with its race; `noise` loses its only dimension, whose room others need."""
    data = Planted(8000)
    config = kd.DimGrowConfig(max_steps=120, num_looks=6, look_rows=4000, learning_rate=0.02)
    with scope:
        found = kd.search(
            data.fields,
            data.batches(100, False).skip(40),
            data.batches(100, False).take(40),
            parameter_budget=70,
            config=config,
            model_config=MODEL,
        )
        retraining = kd.TrainingConfig(max_epochs=2, learning_rate=0.02)
        rows = data.batches(100, False)
        retrained = kd.retrain(found.plan, rows, rows.take(10), config=retraining, model_config=MODEL)
        replicas = replicas_differ(state_of(retrained.model)) if tf.distribute.has_strategy() else []
    return {
        "plan": found.plan.dimensions,
        "dimensions": [record["dimensions"] for record in found.trajectory],
        "losses": [record["validation_loss"] for record in found.trajectory],
        "num_raced": len(found.race),
        "replicas_differ": replicas,
        "retrained": retrained.validation.log_loss,
        "checksum": checksum_of(retrained.model),
    }


def checksum_of(model) -> str:
    checksum = hashlib.sha256()
    for value in values_of(model):
        checksum.update(value.tobytes())
    return checksum.hexdigest()


def place_on_second_device():
    """Devices of tables and slots, one of them placed, through a growth and a projection."""
    layer = kd.GrowableEmbedding(PLANTED.fields, [1, 2, 1], 8, seed=0, name="embedding")
    layer.table_devices = [None, "CPU:1", None]
    model = kd.build_model(layer, MODEL, seed=1)
    model.compile(kd.LazyAdam(0.05), "binary_crossentropy")
    model.optimizer.build(model.trainable_variables)
    layer.grow({0: 1, 1: 2}, model.optimizer)
    layer.project(1, np.eye(4)[:, :3], np.eye(4)[:3], model.optimizer)
    losses = model.fit(PLANTED.batches(100), epochs=3, verbose=0).history["loss"]
    variables = [(table, *(slot for _, slot in model.optimizer.slots_of(table))) for table in layer.tables]
    devices = [sorted({variable.device[-5:] for variable in group}) for group in variables]
    return {"devices": devices, "dims": layer.allocated_dims, "losses": losses}


def train_table_without_columns(strategy):
    """Shapes and kernel after a step with tables of 0 and 2 columns, whose gradients are gathered over the replicas."""
    with strategy.scope():
        layer = kd.GrowableEmbedding(PLANTED.fields, [0, 2, 0], 8, seed=0)
        layer.build(None)
        optimizer = kd.LazyAdam(0.1)
        optimizer.build(layer.trainable_variables)
        before = layer.kernel.numpy()
    ids = {name: values[:20] for name, values in PLANTED.ids.items()}

    def step():
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tf.square(layer(ids) - 1.0))
        optimizer.apply(tape.gradient(loss, layer.trainable_variables), layer.trainable_variables)

    tf.function(lambda: strategy.run(step))()
    return {
        "dims": layer.allocated_dims,
        "is_trained": bool((layer.kernel.numpy() != before).all()),
        "replicas_differ": replicas_differ(optimizer.variables),
    }


def two_devices():
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])


def default_search():
    strategy = two_devices()
    return {
        "single": search_by_utilities(contextlib.nullcontext()),
        "mirrored": search_by_utilities(strategy.scope()),
    }


def default_search_worker():
    return search_by_utilities(tf.distribute.MultiWorkerMirroredStrategy().scope())


def mirrored_quick():
    strategy = two_devices()
    return {
        "float32": fit_and_grow(strategy, "float32"),
        "rows_of_two_replicas": rows_of_two_replicas(strategy),
        "table_without_columns": train_table_without_columns(strategy),
        "placed": place_on_second_device(),
    }


def mirrored():
    strategy = two_devices()
    found = {"mixed_float16": fit_and_grow(strategy, "mixed_float16")}
    for optimizer in (kd.GrowableAdam, kd.LazyAdam):
        _, single = fit_with_open_gates(contextlib.nullcontext(), optimizer)
        model, both = fit_with_open_gates(strategy.scope(), optimizer)
        both["replicas_differ"] = replicas_differ(state_of(model))
        found[f"open gates, {optimizer.__name__}"] = {"single": single, "mirrored": both}
    return found | {
        "saved": save_and_load(strategy, model),
        "resumed": search_and_resume(strategy),
        "retrained": retrain(strategy),
    }


# One worker of several.


def train(strategy, model, growth, epochs):
    """The custom loop of docs/guides/several_gpus.md, by epochs."""
    data = strategy.experimental_distribute_dataset(PLANTED.batches(100, False).repeat(epochs))

    def train_step(ids, labels):
        with tf.GradientTape() as tape:
            loss = model.compute_loss(ids, labels, model(ids, training=True))
        model.optimizer.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)
        return loss

    @tf.function
    def train_on(ids, labels):
        return strategy.reduce("SUM", strategy.run(train_step, args=(ids, labels)), axis=None)

    callbacks = keras.callbacks.CallbackList([growth], model=model)
    callbacks.on_train_begin()
    callbacks.on_epoch_begin(0)
    losses = []
    for step, (ids, labels) in enumerate(data):
        callbacks.on_train_batch_begin(step)
        losses.append(float(train_on(ids, labels)))
    callbacks.on_epoch_end(0)
    return np.reshape(losses, (epochs, -1)).mean(1).tolist(), train_on.experimental_get_tracing_count()


def worker():
    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    with strategy.scope():
        # Each worker another seed, as with seed=None.
        model = make_model(seed=100 + strategy.cluster_resolver.task_id)
        other = make_model(learning_rate=0.01)
    growth = kd.DimensionSearch(model.embedding, LIVELY, check_every=3)
    losses, traces = train(strategy, model, growth, 4)
    checksum = checksum_of(model)

    layer = other.embedding
    open_gates(layer)
    open_growth = kd.DimensionSearch(layer, check_every=3, on_check=functools.partial(open_gates, layer))
    open_losses, _ = train(strategy, other, open_growth, 2)
    return {
        "traces": traces,
        "losses": losses,
        "kinds": kinds_of(growth.trajectory),
        "plan": model.embedding.plan().to_dict(),
        "dimensions": [record["dimensions"] for record in growth.trajectory],
        "checksum": checksum,
        "unreplicated": unreplicated(state_of(model)),
        "open gates": {"losses": open_losses, "dims": layer.used_dims(), "weights": weights_of(other)},
    }


if __name__ == "__main__":
    print(json.dumps(globals()[sys.argv[1]]()))  # noqa: T201
