"""Vocabularies that go on: ids of an earlier run stay what they are, values that are new are appended."""

import collections
import os
from collections.abc import Iterable, Iterator, Sequence

import apache_beam as beam
import numpy as np
import tensorflow as tf
import tensorflow_transform as tft
import tensorflow_transform.beam as tft_beam

MISSING = "<missing>"


def append_vocabulary(values: tf.Tensor, earlier: str, filename: str, min_frequency: int) -> tf.Tensor:
    """What `tft.vocabulary` gives, with the lines of the file `earlier` first: for `tft.apply_vocabulary`.

    Values that the data no longer has keep their lines, and so their ids. New ones follow, the most frequent first and those
    that are equally frequent in the order of their bytes.

    Args:
        values: tokens [B].
        earlier: path of the earlier vocabulary, a text file.
        filename: name of the new one in the Transform graph.
        min_frequency: a new value seen in fewer rows than this gets no id.
    """
    (path,) = tft.experimental.ptransform_analyzer(
        inputs=[values],
        ptransform=_Append(earlier, filename, min_frequency),
        output_dtypes=[tf.string],
        output_shapes=[[]],
        output_asset_default_values=[MISSING.encode()],
        name=f"append_vocabulary_{filename}",
    )
    return path


def read_vocabulary(path: str) -> list[bytes]:
    """The values of a vocabulary, in the order of their ids."""
    with tf.io.gfile.GFile(path, "rb") as file:
        return file.read().splitlines()


class _Append(tft_beam.experimental.PTransformAnalyzer):
    def __init__(self, earlier: str, filename: str, min_frequency: int):
        super().__init__()
        self._earlier, self._filename, self._min_frequency = earlier, filename, min_frequency

    def expand(self, batches):
        path, min_frequency = os.path.join(self.base_temp_dir, self._filename), self._min_frequency
        return (
            batches
            | "CountInBatches" >> beam.FlatMap(_count)
            | "Sum" >> beam.CombinePerKey(sum)
            | "Frequent" >> beam.Filter(lambda pair: pair[1] >= min_frequency)
            | "ToList" >> beam.combiners.ToList()
            | "Write" >> beam.Map(_write, earlier=self._earlier, path=path)
        )


def _count(batch: Sequence[np.ndarray]) -> Iterator[tuple[bytes, int]]:
    (values,) = batch
    yield from collections.Counter(values.ravel().tolist()).items()


def _write(counts: Iterable[tuple[bytes, int]], earlier: str, path: str) -> np.ndarray:
    """Writes the vocabulary, and gives its path: all that the analysis hands on."""
    lines = read_vocabulary(earlier)
    known = set(lines)
    for value, _ in sorted(counts, key=lambda pair: (-pair[1], pair[0])):
        # Like tft.vocabulary: what would not be one line can have no id.
        if value not in known and value and b"\n" not in value and b"\r" not in value:
            lines.append(value)
    tf.io.gfile.makedirs(os.path.dirname(path))  # the analysis only names it
    with tf.io.gfile.GFile(path, "wb") as file:
        file.write(b"".join(line + b"\n" for line in lines))
    return np.array(path)
