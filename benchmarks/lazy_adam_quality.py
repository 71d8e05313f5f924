"""What LazyAdam's short cuts cost in quality: the same uniform-16 model, trained to its end with LazyAdam and Keras Adam.

LazyAdam leaves the moments of untouched rows alone, and squares the sum of a repeated id's gradients; Keras Adam decays all
moments, and squares each part. A third case, Adam on the sums, is in the JSON and tells which of the two matters. On
planted data and on the shipped UCI Adult sample; a round is a seed.
`python benchmarks/lazy_adam_quality.py --rounds 3`: 18 trainings, 14 minutes on 2 cores shared with other work.
"""

import csv
import functools
import gzip
import pathlib
import sys

import keras
import numpy as np
import tensorflow as tf
from harness import Figure, main, round_seed

import keras_dimgrow as kd
from pipeline.datasets.labelled_rows import LabelledRows
from pipeline.datasets.planted import make_planted

DIM = 16
BATCH_SIZE = 512
RATES = (1e-3, 3e-3, 1e-2)
ADULT = pathlib.Path(__file__).parent.parent / "pipeline" / "sample_data" / "adult"
NUM_BINS = 32


class AdamOnSums(keras.optimizers.Adam):
    """Keras Adam given dense gradients: the parts of a repeated id summed."""

    def update_step(self, gradient, variable, learning_rate):
        super().update_step(tf.convert_to_tensor(gradient), variable, learning_rate)


OPTIMIZERS = {"lazy_adam": kd.LazyAdam, "adam": keras.optimizers.Adam, "adam_on_sums": AdamOnSums}


def read_adult(seed: int) -> LabelledRows:
    """The Adult sample in the form of planted data: integers in bins of equal frequency, adult.test to test on."""
    parts = []
    for name in ("adult.data.gz", "adult.test.gz"):
        with gzip.open(ADULT / name, "rt") as stream:
            rows = [row for row in csv.reader(stream, skipinitialspace=True) if len(row) == 15]
        parts.append(np.array(rows))
    order = np.random.default_rng(seed).permutation(len(parts[0]))
    rows = np.concatenate([parts[0][order], parts[1]])
    labels = np.char.startswith(rows[:, -1], ">50K").astype("float32")
    ids, fields = [], []
    for index in range(rows.shape[1] - 1):
        values = rows[:, index]
        if np.char.isnumeric(values).all():
            values = values.astype(float)
            values = np.digitize(values, np.unique(np.quantile(values, np.linspace(0, 1, NUM_BINS + 1)[1:-1])))
        vocabulary, of_field = np.unique(values, return_inverse=True)
        ids.append(of_field)
        fields.append(kd.Field(name=f"column_{index}", vocabulary_size=len(vocabulary)))
    first, second = int(0.8 * len(parts[0])), len(parts[0])
    splits = {"train": slice(first), "validation": slice(first, second), "test": slice(second, None)}
    return LabelledRows(tuple(fields), np.stack(ids, axis=1).astype("int32"), labels, splits)


def train(data: LabelledRows, optimizer: keras.optimizers.Optimizer, seed: int) -> dict[str, float]:
    """A uniform model after training with early stopping on validation log loss: that, and its test AUC and log loss."""
    layer = kd.PlannedEmbedding(kd.EmbeddingPlan.uniform(data.fields, DIM), seed=seed)
    model = kd.build_model(layer, kd.ModelConfig(), seed)
    model.compile(optimizer, "binary_crossentropy")
    history = model.fit(
        data.batches("train", BATCH_SIZE, seed),
        validation_data=data.batches("validation", BATCH_SIZE),
        epochs=30,
        callbacks=[keras.callbacks.EarlyStopping("val_loss", patience=2, restore_best_weights=True)],
        shuffle=False,
        verbose=0,
    )
    test = kd.evaluate(model, data.batches("test", 4096))
    return {"validation": min(history.history["val_loss"]), "auc": test.auc, "log_loss": test.log_loss}


def measure(name: str, rate: float) -> dict[str, float]:
    """What `train` returns, on both data sets."""
    seed = round_seed()
    data = {"planted": make_planted("full", 150_000, seed=seed), "adult": read_adult(seed)}
    measured = {key: train(rows, OPTIMIZERS[name](rate), seed) for key, rows in data.items()}
    return {f"{key}_{what}": value for key, values in measured.items() for what, value in values.items()}


def of_optimizer(results, name: str, data: str, what: str, rates) -> float:
    """`what` at the rate among `rates` whose validation is best."""
    best = min((results[f"{name}_{rate}"] for rate in rates), key=lambda case: case[f"{data}_validation"])
    return best[f"{data}_{what}"]


def lost(data: str, what: str, sign: int, rates):
    """By how much LazyAdam is worse than Keras Adam."""
    return lambda results: (
        sign
        * (of_optimizer(results, "lazy_adam", data, what, rates) - of_optimizer(results, "adam", data, what, rates))
    )


CASES = {f"{name}_{rate}": functools.partial(measure, name, rate) for rate in RATES for name in OPTIMIZERS}
FIGURES = [
    figure
    for data in ("planted", "adult")
    for at, rates in (("at its best rate", RATES), (f"both at {RATES[0]}", RATES[:1]))
    for figure in (
        Figure(f"{data}, {at}: AUC, Adam - LazyAdam", 0.001, 0.0, lost(data, "auc", -1, rates), is_mean=True),
        Figure(f"{data}, {at}: log loss, LazyAdam - Adam", 0.002, 0.0, lost(data, "log_loss", 1, rates), is_mean=True),
    )
]

if __name__ == "__main__":
    sys.exit(main(__file__, "Quality of LazyAdam against Keras Adam, uniform 16", CASES, FIGURES))
