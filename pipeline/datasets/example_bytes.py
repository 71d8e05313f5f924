"""Columns become serialized tf.Examples, column by column and always the same bytes.

Not by tfx_bsl's encoder, whose features come in another order in each process: the same row would be other bytes, and
ExampleGen, which divides rows by a hash of their bytes, would divide the same data otherwise each time.
"""

import struct
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

# Field numbers of tf.train.Feature as protobuf tags (wire type 2): bytes_list, float_list, int64_list.
_KINDS = {pa.string(): b"\x0a", pa.float64(): b"\x12", pa.int64(): b"\x1a"}
_FIELD_1, _FIELD_2 = b"\x0a", b"\x12"


def encode_examples(table: pa.Table) -> list[bytes]:
    """One serialized tf.train.Example a row: text is bytes, float64 is float, null is an absent feature.

    Args:
        table: columns of string, int64 or float64.
    """
    entries = [_encode_column(name, column) for name, column in zip(table.column_names, table.columns, strict=True)]
    features = pc.binary_join_element_wise(*entries, b"", null_handling="replace", null_replacement=b"")
    return [_FIELD_1 + _varint(len(row)) + row for row in features.to_pylist()]


def _encode_column(name: str, column: pa.ChunkedArray) -> pa.Array:
    """The map entry {name: feature} of each row; built once for each value that occurs."""
    coded = column.combine_chunks().dictionary_encode()
    key, kind = _sized(_FIELD_1, name.encode()), _KINDS[column.type]
    encode = _ENCODERS[column.type]
    entries: Sequence[bytes] = [
        _sized(_FIELD_1, key + _sized(_FIELD_2, _sized(kind, _sized(_FIELD_1, encode(value)))))
        for value in coded.dictionary.to_pylist()
    ]
    return pa.array(entries, pa.binary()).take(coded.indices)


def _sized(tag: bytes, payload: bytes) -> bytes:
    return tag + _varint(len(payload)) + payload


def _varint(number: int) -> bytes:
    if number < 128:
        return _ONE_BYTE[number]
    parts = bytearray()
    while number > 127:
        parts.append(number & 127 | 128)
        number >>= 7
    parts.append(number)
    return bytes(parts)


_ONE_BYTE = [bytes([number]) for number in range(128)]
_ENCODERS = {
    pa.string(): str.encode,
    pa.float64(): struct.Struct("<f").pack,
    pa.int64(): lambda value: _varint(value % 2**64),  # negative numbers are those of 64 bits without a sign
}
