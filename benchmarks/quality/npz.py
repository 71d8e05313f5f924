"""Data of the reader's own: one .npz file."""

import os
import zipfile

import numpy as np

from benchmarks.quality.data import Data, make_data

# Names in the file -> names of the splits.
SPLITS_OF_FILE = {"train": "train", "valid": "validation", "test": "test"}
KEYS = (*(f"{axis}_{split}" for split in SPLITS_OF_FILE for axis in "xy"), "vocabulary_sizes", "field_names")


def read_npz(path: str) -> Data:
    """Reads x_train, x_valid, x_test (integers [N, F]), y_train, y_valid, y_test (0 or 1, [N]), vocabulary_sizes [F] and
    field_names [F].

    Raises:
        ValueError: if the file is no .npz, lacks an array, or its arrays do not fit together (see `make_data`).
    """
    if not os.path.isfile(path):
        raise ValueError(f"--data {path}: no such file. Choose planted, planted39, adult, taxi or an .npz file.")
    try:
        file = np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path}: not an .npz file ({error}). Write it with numpy.savez.") from error
    if not isinstance(file, np.lib.npyio.NpzFile):
        raise ValueError(
            f"{path}: one array; an .npz file with {', '.join(KEYS)} is needed. Write it with numpy.savez."
        )
    with file:
        missing = [key for key in KEYS if key not in file.files]
        if missing:
            raise ValueError(
                f"{path}: lacks {', '.join(missing)}; received {', '.join(sorted(file.files)) or 'no array'}."
            )
        arrays = {
            split: (_read(file, path, f"x_{key}"), _read(file, path, f"y_{key}"))
            for key, split in SPLITS_OF_FILE.items()
        }
        sizes, names = _read(file, path, "vocabulary_sizes"), _read(file, path, "field_names")
    if sizes.ndim != 1 or not np.issubdtype(sizes.dtype, np.integer) or names.ndim != 1:
        raise ValueError(
            f"{path}: vocabulary_sizes must be integers [F] and field_names texts [F]; received {sizes.dtype} of shape "
            f"{sizes.shape} and {names.dtype} of shape {names.shape}."
        )
    name = os.path.splitext(os.path.basename(path))[0]
    return make_data(name, [str(field) for field in names], sizes.tolist(), arrays)


def _read(file: np.lib.npyio.NpzFile, path: str, key: str) -> np.ndarray:
    try:
        return file[key]
    except ValueError as error:
        raise ValueError(
            f"{path}: {key} cannot be read without pickle ({error}). Save it as an array of integers or, field_names, of "
            "texts: numpy.array(names, dtype=str)."
        ) from error
