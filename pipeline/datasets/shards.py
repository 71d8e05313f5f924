"""Typed columns become shards of tf.Examples in random order, in bounded memory: the two-pass shuffle.

The rows of each block are dealt at random into piles (Arrow streams on disk); then each pile, which fits into memory, is
shuffled and written as one gzip shard. So every shard is a sample of the whole data, in an order that has nothing to do with
that of the source, whatever that is sorted by. The same source gives the same bytes, however many processes write them.

gzip and not zstd, because TensorFlow reads no zstd TFRecords; its fastest level, because ExampleGen is not the last to
compress them.
"""

import functools
import gzip
import os
import struct
from collections.abc import Iterator, Sequence
from typing import IO

import google_crc32c
import numpy as np
import pyarrow as pa

from pipeline.datasets.example_bytes import encode_examples

PILE_BYTES = 32 * 2**20  # of text: about as much again as Arrow's columns
MAX_PILES = 4096
SEED = 0
_ROWS_AT_A_TIME = 8192


def count_piles(num_bytes: int) -> int:
    """How many piles text of so many bytes is dealt into."""
    return min(max(1, -(-num_bytes // PILE_BYTES)), MAX_PILES)


def deal(table: pa.Table, num_piles: int, block_index: int) -> list[pa.Buffer]:
    """The rows of each pile, as an Arrow stream; seeded by the block's number."""
    piles = np.random.default_rng([SEED, block_index]).integers(num_piles, size=table.num_rows)
    # Combined first: taking rows from several chunks is slow.
    dealt = table.combine_chunks().take(pa.array(np.argsort(piles, kind="stable")))
    ends = np.cumsum(np.bincount(piles, minlength=num_piles))
    return [_to_stream(dealt[begin:end]) for begin, end in zip([0, *ends[:-1]], ends, strict=True)]


def append_to_piles(directory: str, buffers: Sequence[pa.Buffer]) -> None:
    """Appends a block's rows to the piles in `directory`."""
    for index, buffer in enumerate(buffers):
        with open(_pile_path(directory, index), "ab") as file:
            file.write(buffer)


def write_shard(piles: str, directory: str, index: int) -> None:
    """Shuffles pile `index` and writes it to directory/data-INDEX.gz; the pile is removed.

    Categories are bytes, integers and the label int64, numeric columns float; a missing value is an absent feature.
    """
    pile = _pile_path(piles, index)
    table = pa.concat_tables(_read_streams(pile)).combine_chunks()
    os.remove(pile)
    order = np.random.default_rng([SEED, index, 1]).permutation(table.num_rows)
    with (
        open(os.path.join(directory, f"data-{index:05d}.gz"), "wb") as file,
        # Without a name and a time of its own: the same rows are the same bytes.
        gzip.GzipFile("", "wb", compresslevel=1, fileobj=file, mtime=0) as compressed,
    ):
        for begin in range(0, table.num_rows, _ROWS_AT_A_TIME):
            rows = table.take(pa.array(order[begin : begin + _ROWS_AT_A_TIME]))
            write_records(compressed, encode_examples(rows))


def write_records(file: IO[bytes] | gzip.GzipFile, records: Sequence[bytes]) -> None:
    """Writes records as TFRecord frames.

    TensorFlow's own writer would cost every process seconds and 400 MB for its import.
    """
    parts: list[bytes] = []
    for record in records:
        parts += (_frame_head(len(record)), record, struct.pack("<I", _mask(google_crc32c.value(record))))
    file.write(b"".join(parts))


@functools.lru_cache(2**16)
def _frame_head(num_bytes: int) -> bytes:
    length = struct.pack("<Q", num_bytes)
    return length + struct.pack("<I", _mask(google_crc32c.value(length)))


def _mask(checksum: int) -> int:
    return (((checksum >> 15) | (checksum << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def _pile_path(directory: str, index: int) -> str:
    return os.path.join(directory, f"{index:05d}.arrows")


def _to_stream(table: pa.Table) -> pa.Buffer:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def _read_streams(path: str) -> Iterator[pa.Table]:
    with pa.OSFile(path) as file:
        while file.tell() < file.size():
            yield pa.ipc.open_stream(file).read_all()
