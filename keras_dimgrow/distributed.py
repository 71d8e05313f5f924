"""Searches and trainings over several devices and processes: what Keras and TensorFlow leave to be done.

Keras's `fit` runs under `tf.distribute.MirroredStrategy` and fails under `MultiWorkerMirroredStrategy` (Keras issue 20585):
`fit` here is Keras's own for one process, and a loop with `strategy.run` for several (and for an epoch that was begun before).
Every worker runs the same program on the same data; what workers decide by themselves is taken from the first one,
`from_chief`, so that they never drift apart.
"""

import concurrent.futures
from collections.abc import Callable, Sequence
from typing import TypeVar

import keras
import numpy as np
import tensorflow as tf

from keras_dimgrow.evaluation import evaluate

Result = TypeVar("Result")


def num_workers() -> int:
    """Processes of the present strategy: 1 but in the scope of a `MultiWorkerMirroredStrategy` with a TF_CONFIG of several."""
    resolver = _resolver()
    return 1 if resolver is None else max(1, len(_tasks(resolver)))


def is_chief() -> bool:
    """Whether this process is the one that writes: the task `chief`, or the first worker where there is none."""
    resolver = _resolver()
    if num_workers() == 1:
        return True
    return (resolver.task_type, resolver.task_id) == _tasks(resolver)[0]


def _resolver():
    return tf.distribute.get_strategy().cluster_resolver


def _tasks(resolver) -> list[tuple[str, int]]:
    spec = resolver.cluster_spec()
    kinds = [kind for kind in ("chief", "worker") if kind in spec.jobs]
    return [(kind, index) for kind in kinds for index in spec.task_indices(kind)]


def from_chief(arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The chief's values of arrays that have the same shapes on every worker; all workers must call this together."""
    arrays = [np.asarray(array) for array in arrays]
    if num_workers() == 1:
        return arrays
    own = np.concatenate([array.ravel().astype(np.float64) for array in arrays])

    strategy = tf.distribute.get_strategy()
    shared = strategy.experimental_local_results(strategy.run(_share, args=(own,)))[0].numpy()
    parts = np.split(shared, np.cumsum([array.size for array in arrays])[:-1])
    return [part.reshape(array.shape).astype(array.dtype) for part, array in zip(parts, arrays, strict=True)]


@tf.function(input_signature=[tf.TensorSpec([None], tf.float64)])
def _share(values):
    context = tf.distribute.get_replica_context()
    is_first = tf.cast(
        tf.equal(context.replica_id_in_sync_group, 0), values.dtype
    )  # the chief's: tasks are in one order
    return context.all_reduce(tf.distribute.ReduceOp.SUM, values * is_first)


def outside_of_strategy(function: Callable[[], Result]) -> Result:
    """The result of `function`, called where no strategy is entered: on this process's first device, by itself."""
    if not tf.distribute.has_strategy():
        return function()
    # The strategy that was entered, as Keras's settings, belongs to the thread.
    policy = keras.config.dtype_policy()
    with concurrent.futures.ThreadPoolExecutor(1, "one device", keras.config.set_dtype_policy, (policy,)) as thread:
        return thread.submit(function).result()


def on_one_device(model: keras.Model) -> keras.Model:
    """The model that `retrain` made, on one device: to be called and exported outside of the scope of a strategy."""
    if not any(isinstance(variable.value, tf.distribute.DistributedValues) for variable in model.variables):
        return model
    copy = type(model).from_config(model.get_config())
    copy.build()
    copy.set_weights(model.get_weights())
    return copy


def fit(
    model: keras.Model,
    data: tf.data.Dataset,
    *,
    steps_per_epoch: int,
    epochs: int,
    initial_epoch: int = 0,
    first_epoch_steps: int | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    validation_data: tf.data.Dataset | None = None,
) -> keras.callbacks.History:
    """Trains a compiled model on an endless dataset of global batches: `model.fit`, for any number of workers.

    Args:
        model: made and compiled in the strategy's scope.
        data: batches of (inputs, labels), in the same order on every worker; each replica trains with its share of each.
        steps_per_epoch, epochs, initial_epoch, callbacks: as of `model.fit`.
        first_epoch_steps: steps of the first epoch, where that was begun before; None: steps_per_epoch.
        validation_data: what `val_loss` in the logs of each epoch is measured on; None: there is none.
    """
    first_epoch_steps = steps_per_epoch if first_epoch_steps is None else first_epoch_steps
    if num_workers() == 1 and first_epoch_steps == steps_per_epoch:
        return model.fit(
            data,
            steps_per_epoch=steps_per_epoch,
            epochs=epochs,
            initial_epoch=initial_epoch,
            callbacks=list(callbacks),
            validation_data=validation_data,
            shuffle=False,
            verbose=0,
        )
    strategy = tf.distribute.get_strategy()

    def train_step(inputs, labels):
        with tf.GradientTape() as tape:
            # Keras divides this loss by the number of replicas, because the gradients are summed over them.
            loss = model.compute_loss(inputs, labels, model(inputs, training=True))
            scaled = model.optimizer.scale_loss(loss)
        model.optimizer.apply(tape.gradient(scaled, model.trainable_variables), model.trainable_variables)
        return loss

    @tf.function(reduce_retracing=True)
    def train(inputs, labels):
        return strategy.reduce(tf.distribute.ReduceOp.SUM, strategy.run(train_step, args=(inputs, labels)), axis=None)

    options = tf.data.Options()
    # By rows and not by files: so the global batches are those of one worker.
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    batches = iter(strategy.experimental_distribute_dataset(data.with_options(options)))
    every = keras.callbacks.CallbackList(list(callbacks), add_history=True, model=model)
    model.stop_training = False
    every.on_train_begin()
    for epoch in range(initial_epoch, epochs):
        every.on_epoch_begin(epoch)
        losses = []
        for step in range(first_epoch_steps if epoch == initial_epoch else steps_per_epoch):
            every.on_train_batch_begin(step)
            losses.append(train(*next(batches)))
            if model.stop_training:
                break
        logs = {"loss": float(np.mean(losses))}
        if validation_data is not None:
            logs["val_loss"] = evaluate(model, validation_data).log_loss
        every.on_epoch_end(epoch, logs)
        if model.stop_training:
            break
    every.on_train_end()
    return model.history
