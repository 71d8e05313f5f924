"""A search by several workers, one process each, that all run this script (docs/guides/several_gpus.md).

    TF_CONFIG='{"cluster": {"worker": ["HOST0:PORT", "HOST1:PORT"]}, "task": {"type": "worker", "index": 0}}' \
        python examples/several_workers.py

The second worker has index 1. Without TF_CONFIG there is one worker. Each worker prints one line of JSON, and all
print the same: the plan that they found, the dimensions at each check, and a checksum of all variables.
"""

import hashlib
import json

import keras
import numpy as np
import tensorflow as tf

import keras_dimgrow as kd

# Before any other use of TensorFlow: it connects the workers.
strategy = tf.distribute.MultiWorkerMirroredStrategy()

# Clicks depend on user and item, not on the hour. Every worker reads the same rows in the same order.
rng = np.random.default_rng(0)
users, items, hours = (rng.integers(0, size, 16384) for size in (8, 12, 24))
clicks = (users + items > 8 + rng.normal(size=16384)).astype("float32")
inputs = {"user_id": users, "item_id": items, "hour": hours}
rows = tf.data.Dataset.from_tensor_slices((inputs, clicks)).shuffle(16384, seed=0)
# A global batch of 256 rows: each worker trains with its share.
data = strategy.experimental_distribute_dataset(rows.repeat().batch(256))

fields = [kd.Field(name="user_id", vocabulary_size=8), kd.Field(name="item_id", vocabulary_size=12)]
fields.append(kd.Field(name="hour", vocabulary_size=24))

with strategy.scope():
    layer = kd.DimGrowEmbedding(fields, adapter_width=8, gate=kd.GateConfig(penalty=3e-3), stddev=0.1, seed=0)
    model = kd.build_model(layer, kd.ModelConfig(adapter_width=8, hidden_units=(16,)), seed=0)
    model.compile(kd.LazyAdam(0.05), "binary_crossentropy")


def train_step(ids, labels):
    with tf.GradientTape() as tape:
        # Keras divides this loss by the number of replicas, because the gradients are summed over them.
        loss = model.compute_loss(ids, labels, model(ids, training=True))
    model.optimizer.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)
    return loss


@tf.function
def train(ids, labels):
    return strategy.reduce("SUM", strategy.run(train_step, args=(ids, labels)), axis=None)


# So that dimensions come and go within seconds; leave these to their defaults for data of yours.
search = kd.DimensionSearch(layer, kd.GrowthConfig(shrink_threshold=0.1), check_every=10, max_steps=80)
callbacks = keras.callbacks.CallbackList([search], model=model)
callbacks.on_train_begin()
callbacks.on_epoch_begin(0)
for step, (ids, labels) in enumerate(data):
    # Dimensions grow here, outside of strategy.run.
    callbacks.on_train_batch_begin(step)
    loss = train(ids, labels)
    if model.stop_training:
        break
callbacks.on_epoch_end(0)
callbacks.on_train_end()

checksum = hashlib.sha256()
for variable in (*model.variables, *model.optimizer.variables):
    checksum.update(variable.numpy().tobytes())
trajectory = [list(record["dimensions"].values()) for record in search.trajectory]
found = {"loss": float(loss), "plan": layer.plan().dimensions, "trajectory": trajectory}
print(json.dumps(found | {"checksum": checksum.hexdigest()}))
