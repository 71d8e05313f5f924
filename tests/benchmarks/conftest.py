"""Small data, and results that were never measured."""

import numpy as np
import pytest

from benchmarks.quality.results import Results, Row

SIZES = {"user": 100, "hour": 20, "noise": 80}


@pytest.fixture
def arrays():
    """What an .npz of 3 fields holds: the label follows the field `hour`."""
    rng = np.random.default_rng(0)
    arrays = {"vocabulary_sizes": np.array(list(SIZES.values())), "field_names": np.array(list(SIZES))}
    for split, num_rows in (("train", 512), ("valid", 101), ("test", 128)):
        ids = np.stack([rng.integers(0, size, num_rows) for size in SIZES.values()], axis=1)
        arrays[f"x_{split}"] = ids.astype(np.int32)
        arrays[f"y_{split}"] = (ids[:, 1] % 2).astype(np.float32)
    return arrays


@pytest.fixture
def write_npz(tmp_path):
    def write(arrays) -> str:
        path = str(tmp_path / "clicks.npz")
        np.savez(path, **arrays)
        return path

    return write


@pytest.fixture
def make_rows():
    """Rows of one method at one budget: a search seed for each list of AUCs, a training for each AUC."""

    def make_rows(method, budget, aucs, plan, **numbers):
        parameters = sum(SIZES[field] * dimension for field, dimension in plan.items())
        defaults = {"search_seconds": 0.0, "race_seconds": 0.0, "train_seconds": 10.0, "peak_table_bytes": 0}
        return [
            Row(
                **({"data": "clicks", "method": method, "budget": budget, "seed": seed, "retrain_seed": index}),
                **({"parameters": parameters, "share": parameters / 3200, "auc": auc, "log_loss": 0.5, "plan": plan}),
                **(defaults | numbers),
            )
            for seed, of_seed in enumerate(aucs)
            for index, auc in enumerate(of_seed)
        ]

    return make_rows


@pytest.fixture
def make_results(make_rows):
    """Results with uniform 16, a rule at budget 0.1 and the given rows beside."""

    def make_results(*more, unfit=()):
        uniform = {k: dict.fromkeys(SIZES, k) for k in (1, 2, 16)}
        rows = [
            *make_rows("uniform 16", None, [[0.80, 0.81], [0.80, 0.81]], uniform[16]),
            *make_rows("uniform 1", None, [[0.70, 0.70]], uniform[1]),
            *make_rows("uniform", 0.1, [[0.70, 0.71], [0.70, 0.71]], uniform[1]),
            *(row for rows in more for row in rows),
        ]
        return Results(rows, list(unfit), dict(SIZES))

    return make_results
