"""DimGrowEmbedding in a model with a train_step of its own: finds the dimension of each field of made-up clicks.

    python examples/custom_train_step.py

Half a minute on 2 CPU cores. `user` and `item` come out with some dimensions, `hour`, which says nothing, with 0.
"""

import keras
import numpy as np
import tensorflow as tf

import keras_dimgrow as kd

FIELDS = [kd.Field(name=name, vocabulary_size=size) for name, size in (("user", 8), ("item", 12), ("hour", 24))]


class ClickModel(keras.Model):
    def __init__(self):
        super().__init__()
        self.embedding = kd.DimGrowEmbedding(FIELDS, adapter_width=16, seed=0)
        self.head = keras.Sequential([keras.layers.Dense(32, "relu"), keras.layers.Dense(1, "sigmoid")])

    def call(self, inputs, training=None):
        return self.head(self.embedding(inputs, training=training))

    def train_step(self, data):
        inputs, labels, weights = keras.utils.unpack_x_y_sample_weight(data)
        with tf.GradientTape() as tape:
            outputs = self(inputs, training=True)
            loss = self.compute_loss(inputs, labels, outputs, weights)  # with the gates' penalty
        self.optimizer.apply(tape.gradient(loss, self.trainable_variables), self.trainable_variables)
        for metric in self.metrics:
            metric.update_state(*((loss,) if metric.name == "loss" else (labels, outputs, weights)))
        return self.get_metrics_result()


if __name__ == "__main__":
    keras.utils.set_random_seed(0)
    ids = {field.name: np.random.randint(0, field.vocabulary_size, 16384) for field in FIELDS}
    clicks = (ids["item"] < 8) & (ids["user"] % 4 == ids["item"] % 4)
    model = ClickModel()
    model.compile(kd.LazyAdam(2e-2), "binary_crossentropy", metrics=["AUC"])
    model({name: values[:1] for name, values in ids.items()})  # builds it
    model.fit(ids, clicks.astype("float32"), batch_size=256, epochs=12, callbacks=[kd.DimensionSearch(model.embedding)])
    print(model.embedding.plan().dimensions)
