"""What FIITED's fixed memory costs in quality: against uniform tables, and against AdaEmbed in as much memory.

Planted click data with a million rows of data and of tables, and Zipf ids (profile planted39), dimension 16, 87.5% of the
embedding parameters pruned, so that pools are 1/8 of the uniform tables. A round is a seed, of data and models. FIITED's
rows have 2 chunks, AdaEmbed's 1. Equal pools are the papers' pruning ratio; with equal bytes, AdaEmbed's pool is 0.169 of the
uniform tables, for what it saves in index and utilities. Both have their defaults: FIITED's rows start from a plan by fields
(MDE), whose small tables stay whole, AdaEmbed's do not. `adaembed_fields` has FIITED's start, and `fiited_uniform`
AdaEmbed's. Losses of accuracy are in points (0.1 is 0.001).
`python benchmarks/fiited_quality.py --rounds 3`: 18 trainings, about 20 minutes on 2 cores.
"""

import sys

import numpy as np
from harness import Figure, main, round_seed

import keras_dimgrow as kd
from keras_dimgrow.methods.adaembed import AdaEmbedConfig
from keras_dimgrow.methods.fiited import FIITEDConfig
from pipeline.datasets.planted import make_planted

PROFILE, NUM_ROWS = "planted39", 1_000_000
BATCH_SIZE = 1024
DIM = 16
KEPT = 0.125  # of uniform 16's parameters


def bytes_of_slot(num_chunks: int) -> int:
    """Of a chunk with Adam's two slots, its place in the free list and its mark for the optimizer."""
    return 3 * 4 * DIM // num_chunks + 4 + 1


# AdaEmbed's share where all bytes are as many as FIITED's: of a row, 8 for each chunk (index and utility), and its slots.
KEPT_BY_BYTES = (KEPT * 2 * bytes_of_slot(2) + 8 * 2 - 8) / bytes_of_slot(1)
METHODS = {
    "uniform": ("uniform", None, None),
    "fiited": ("fiited", KEPT, FIITEDConfig(is_trained=False)),
    "adaembed": ("adaembed", KEPT, AdaEmbedConfig(is_trained=False)),
    "adaembed_bytes": ("adaembed", KEPT_BY_BYTES, AdaEmbedConfig(is_trained=False)),
    "fiited_uniform": ("fiited", KEPT, FIITEDConfig(initial="uniform", is_trained=False)),
    "adaembed_fields": ("adaembed", KEPT, AdaEmbedConfig(initial="mixed_dimension", is_trained=False)),
}


def measure(name: str) -> dict[str, float]:
    """Accuracy, AUC and log loss on test rows after training with early stopping."""
    seed = round_seed()
    method, budget, config = METHODS[name]
    data = make_planted(PROFILE, NUM_ROWS, seed=seed)
    train, validation = data.batches("train", BATCH_SIZE, seed), data.batches("validation", 8192)
    plan = kd.search(data.fields, train, method=method, parameter_budget=budget, config=config, seed=seed).plan
    trained = kd.retrain(plan, train, validation, seed=seed)
    test = data.batches("test", 8192)
    right = [
        (trained.model.predict_on_batch(ids)[: len(y), 0] > 0.5) == (y > 0.5) for ids, y in test.as_numpy_iterator()
    ]
    measured = kd.evaluate(trained.model, test)
    results = {
        "accuracy": float(np.concatenate(right).mean()),
        "auc": measured.auc,
        "log_loss": measured.log_loss,
        "epochs": trained.num_epochs,
        "parameters": float(plan.parameters),
    }
    pool = {} if plan.chunks is None else trained.model.embedding.summary()
    return results | {key: float(value) for key, value in pool.items()}


def lost(than: str, name: str, what: str, factor: float):
    return lambda results: factor * (results[than][what] - results[name][what])


CASES = {name: lambda name=name: measure(name) for name in METHODS}
LOST = "accuracy lost at 87.5% pruning, uniform - FIITED, points"
FIGURES = [
    Figure(LOST, 0.1, 0.0, lost("uniform", "fiited", "accuracy", 100), is_mean=True),
    *(
        Figure(f"AUC, AdaEmbed - FIITED, {memory}", 0.0, -0.002, lost(adaembed, fiited, "auc", 1), is_mean=True)
        for memory, adaembed, fiited in (
            ("equal pools", "adaembed", "fiited"),
            ("equal bytes", "adaembed_bytes", "fiited"),
            ("equal pools, both from a plan by fields", "adaembed_fields", "fiited"),
            ("equal pools, both uniform at the start", "adaembed", "fiited_uniform"),
            ("equal bytes, both uniform at the start", "adaembed_bytes", "fiited_uniform"),
        )
    ),
]

if __name__ == "__main__":
    sys.exit(main(__file__, "FIITED's quality in fixed memory, planted data with 1M rows of tables", CASES, FIGURES))
