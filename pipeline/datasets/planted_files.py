"""Planted data in files, with the truth about it beside them: `python -m pipeline planted`."""

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from pipeline.datasets.planted import LABEL_NOISE, make_planted, stream
from pipeline.datasets.planted_auc import auc_of_bins, bin_probabilities
from pipeline.datasets.planted_profiles import PROFILES
from pipeline.errors import UserError

SCHEMA_VERSION = 1
LABEL = "label"
SPLITS = {"train": "train", "validation": "valid", "test": "test"}  # as the arrays of the .npz are named
UNIFORM = 16


def write_planted(
    output: str,
    profile: str,
    num_rows: int,
    *,
    teacher: int = 0,
    seed: int = 0,
    label_noise: float = LABEL_NOISE,
    force: bool = False,
) -> tuple[str, str]:
    """Writes planted rows to an .npz or a .csv file and the truth to NAME.truth.json beside it; returns both paths.

    Args:
        output: a file whose name ends in .npz or .csv, or a directory for PROFILE-TEACHER-SEED.npz.
        profile, num_rows, teacher, seed, label_noise: see `make_planted`.
        force: overwrite existing files.

    Raises:
        UserError: for an argument that `make_planted` rejects; or if a file exists (without force) or cannot be written.
    """
    writers = {".npz": write_npz, ".csv": write_csv}
    if os.path.isdir(output):
        output = os.path.join(output, f"{profile}-{teacher}-{seed}.npz")
    ending = os.path.splitext(output)[1]
    if ending not in writers:
        raise UserError(f"{output}: neither a directory nor a name that ends in .npz or .csv. Choose another --output.")
    for path in (output, truth_path(output)):
        if os.path.exists(path) and not force:
            raise UserError(f"{path}: exists already. Choose another --output, or overwrite it with --force.")
    return writers[ending](output, profile, num_rows, teacher=teacher, seed=seed, label_noise=label_noise)


def write_npz(path: str, profile: str, num_rows: int, **options) -> tuple[str, str]:
    """Writes x_train, x_valid, x_test (int32 [N, F]), y_train, y_valid, y_test (float32 [N]), vocabulary_sizes (int64 [F])
    and field_names (text [F]); the truth has the Bayes AUC of each split.

    Args: see `write_planted`. Raises: UserError, as there.
    """
    planted = make_planted(profile, num_rows, **options)
    arrays: dict[str, Any] = {
        "vocabulary_sizes": np.array([field.vocabulary_size for field in planted.fields]),
        "field_names": np.array([field.name for field in planted.fields]),
    }
    for split, name in SPLITS.items():
        arrays[f"x_{name}"] = planted.ids[planted.splits[split]]
        arrays[f"y_{name}"] = planted.labels[planted.splits[split]]
    truth = make_truth(profile, num_rows, {split: planted.bayes_auc(split) for split in SPLITS}, **options)
    with _new_files(path) as (data, truth_file):
        with open(data, "wb") as file:
            np.savez(file, **arrays)
        _write_json(truth_file, truth)
    return path, truth_path(path)


def write_csv(path: str, profile: str, num_rows: int, **options) -> tuple[str, str]:
    """Writes a header and rows of categories ("c17" for id 17), the label (0 or 1) last, in memory of one chunk of rows; the
    truth has the Bayes AUC of all rows.

    Args: see `write_planted`. Raises: UserError, as there.
    """
    chunks = stream(profile, num_rows, **options)
    names = [field.name for field in PROFILES[profile]]
    # Digits alone would be taken for integers.
    categories = np.array([f"c{i}" for i in range(max(f.vocabulary_size for f in PROFILES[profile]))], object)
    sums = np.zeros(()), np.zeros(())
    with _new_files(path) as (data, truth_file):
        with open(data, "w", encoding="utf-8", newline="") as file:
            file.write(",".join([*names, LABEL]) + "\n")
            for chunk in chunks:
                labels = np.array(["0", "1"], object)[chunk.labels.astype(int)]
                rows = np.column_stack([categories[chunk.ids], labels]).tolist()
                file.writelines(",".join(row) + "\n" for row in rows)
                positives, negatives = bin_probabilities(chunk.probabilities)
                sums = sums[0] + positives, sums[1] + negatives
        _write_json(truth_file, make_truth(profile, num_rows, {"all": auc_of_bins(*sums)}, **options))
    return path, truth_path(path)


def make_truth(
    profile: str,
    num_rows: int,
    bayes_auc: Mapping[str, float],
    *,
    teacher: int = 0,
    seed: int = 0,
    label_noise: float = LABEL_NOISE,
) -> dict[str, object]:
    """The truth about planted rows as plain JSON types: how they were drawn, and the oracle plan with its parameters."""
    fields = PROFILES[profile]
    parameters = sum(field.vocabulary_size * field.rank for field in fields)
    return {
        "schema_version": SCHEMA_VERSION,
        "profile": profile,
        "num_rows": num_rows,
        "teacher": teacher,
        "seed": seed,
        "label_noise": label_noise,
        "ranks": {field.name: field.rank for field in fields},
        "roles": {field.name: field.role for field in fields},
        "partners": {field.name: field.partner for field in fields if field.partner},
        "oracle_parameters": parameters,
        "oracle_share_of_uniform_16": parameters / (UNIFORM * sum(field.vocabulary_size for field in fields)),
        "bayes_auc": dict(bayes_auc),
    }


def truth_path(path: str) -> str:
    """Where the truth about the data in the file `path` is written."""
    return f"{os.path.splitext(path)[0]}.truth.json"


@contextlib.contextmanager
def _new_files(path: str) -> Iterator[tuple[str, str]]:
    """Temporary names for the data and its truth, renamed when all is written, removed on any error."""
    finals = truth_path(path), path  # the data last: where it is, its truth is too
    partials = [f"{final}.{os.getpid()}.partial" for final in finals]
    try:
        yield partials[1], partials[0]
        for partial, final in zip(partials, finals, strict=True):
            os.replace(partial, final)
    except BaseException as error:
        for partial in partials:
            if os.path.exists(partial):
                os.remove(partial)
        if isinstance(error, OSError):
            raise UserError(f"{path}: cannot be written ({error.strerror}). Choose another --output.") from error
        raise


def _write_json(path: str, values: Mapping[str, object]) -> None:
    with open(path, "w", encoding="utf-8") as file:
        json.dump(values, file, indent=2, sort_keys=True)
