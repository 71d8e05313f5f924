"""The rows of Transform's record batches, encoded in blocks for `components.transformed_data`."""

from collections.abc import Iterator
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
from apache_beam.transforms.window import GlobalWindows

from components.row_blocks import ROWS_PER_BLOCK, encode_block


@beam.typehints.with_input_types(tuple[pa.RecordBatch, dict[str, pa.Array]])
@beam.typehints.with_output_types(tuple[Any, bytes])
class EncodeBlocks(beam.DoFn):
    """Serialized blocks of ROWS_PER_BLOCK rows, the last one of a bundle shorter: Beam's batches vary from run to run.

    It takes the place of TFX's `_RecordBatchToExamplesFn`, which gives a tf.Example a row.

    Args:
        schema: of the transformed rows; unused, but TFX gives it.
    """

    def __init__(self, schema):
        pass

    def start_bundle(self) -> None:
        """No row is held."""
        self._names: list[str] = []
        self._held: list[np.ndarray] = []  # int64 [columns, rows]

    def process(self, element: tuple[pa.RecordBatch, dict[str, pa.Array]]) -> Iterator[tuple[None, bytes]]:
        """The blocks that are full with these rows."""
        batch, _ = element
        self._names = batch.schema.names
        self._held.append(np.stack([column.flatten().to_numpy() for column in batch.columns]))
        while sum(part.shape[1] for part in self._held) >= ROWS_PER_BLOCK:
            rows = np.concatenate(self._held, axis=1)
            self._held = [rows[:, ROWS_PER_BLOCK:]]
            yield self._encode(rows[:, :ROWS_PER_BLOCK])

    def finish_bundle(self) -> Iterator[Any]:
        """The block of the rows that are left."""
        rows = np.concatenate(self._held, axis=1) if self._held else np.empty((0, 0))
        if rows.size:
            yield GlobalWindows.windowed_value(self._encode(rows))

    def _encode(self, rows: np.ndarray) -> tuple[None, bytes]:
        return None, encode_block(dict(zip(self._names, rows, strict=True)))
