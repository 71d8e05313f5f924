"""Feature selection by shuffle gates alone: which columns of UCI Adult say whether someone earns more than 50,000?

    python examples/feature_selection.py

Half a minute on 2 CPU cores. Each field is one-hot (numbers in ten buckets) and has one gate: near 1 if the prediction
needs the field, near 0 if it does not.
"""

import csv
import gzip
import pathlib

import keras
import numpy as np

import keras_dimgrow as kd

DATA = pathlib.Path(__file__).parents[1] / "pipeline/sample_data/adult/adult.data.gz"
NUMBERS = ("age", "fnlwgt", "education_num", "capital_gain", "capital_loss", "hours_per_week")
COLUMNS = (
    *("age", "workclass", "fnlwgt", "education", "education_num", "marital_status", "occupation", "relationship"),
    *("race", "sex", "capital_gain", "capital_loss", "hours_per_week", "native_country", "income"),
)


def one_hot(name, values):
    """[B, buckets or distinct values]."""
    if name in NUMBERS:
        numbers = values.astype(float)
        ids = np.searchsorted(np.unique(np.quantile(numbers, np.linspace(0, 1, 11)[1:-1])), numbers)
    else:
        ids = np.unique(values, return_inverse=True)[1]
    return np.eye(ids.max() + 1, dtype="float32")[ids]


def main():
    keras.utils.set_random_seed(0)
    with gzip.open(DATA, "rt") as file:
        table = np.array([row for row in csv.reader(file, skipinitialspace=True) if len(row) == len(COLUMNS)])
    labels = (table[:, -1] == ">50K").astype("float32")
    fields = {name: one_hot(name, table[:, i]) for i, name in enumerate(COLUMNS[:-1])}
    features = np.concatenate(list(fields.values()), axis=1)

    gate = kd.ShuffleGate(penalty=3e-3, field_sizes=[field.shape[1] for field in fields.values()], seed=0)
    hidden, output = keras.layers.Dense(32, "relu"), keras.layers.Dense(1, "sigmoid")
    model = keras.Sequential([keras.Input((features.shape[1],)), gate, hidden, output])
    model.compile(keras.optimizers.Adam(5e-3), "binary_crossentropy", metrics=["AUC"])
    model.fit(features, labels, batch_size=256, epochs=10, verbose=2)

    for name, value in sorted(zip(fields, gate.gates.numpy(), strict=True), key=lambda pair: -pair[1]):
        print(f"{name:16} {value:.3f}")


if __name__ == "__main__":
    main()
