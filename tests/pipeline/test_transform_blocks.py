import apache_beam as beam
import numpy as np
import pyarrow as pa
import pytest
from apache_beam.testing.util import assert_that

from components.row_blocks import ROWS_PER_BLOCK, decode_block
from pipeline.beam_options import make_beam_args
from pipeline.transform.blocks import EncodeBlocks


def make_batch(begin, end):
    """A record batch as TensorFlow Transform gives it: each value a list of one."""
    ids = np.arange(begin, end)
    kind = pa.large_list(pa.int64())
    columns = [pa.array([[int(value)] for value in values], kind) for values in (ids, ids % 7)]
    return pa.RecordBatch.from_arrays(columns, ["row", "day"]), {}


@pytest.mark.parametrize("num_rows_of_batches", [1, 1000, ROWS_PER_BLOCK, 9000])
def test_blocks_are_of_one_size_and_keep_the_order_whatever_the_batches(num_rows_of_batches):
    num_rows = 10_000 if num_rows_of_batches > 1 else 5
    encoder = EncodeBlocks(schema=None)
    encoder.start_bundle()
    records = []
    for begin in range(0, num_rows, num_rows_of_batches):
        batch = make_batch(begin, min(begin + num_rows_of_batches, num_rows))
        records += [record for _, record in encoder.process(batch)]
    records += [windowed.value[1] for windowed in encoder.finish_bundle()]

    blocks = [decode_block(record, ["day", "row"]) for record in records]

    sizes = [len(block) for block in blocks]
    assert all(size == ROWS_PER_BLOCK for size in sizes[:-1])
    assert 0 < sizes[-1] <= ROWS_PER_BLOCK
    rows = np.concatenate(blocks)
    assert rows.dtype == np.int32
    assert rows[:, 1].tolist() == list(range(num_rows))
    assert rows[:, 0].tolist() == [row % 7 for row in range(num_rows)]


def test_a_bundle_without_rows_has_no_block():
    encoder = EncodeBlocks(schema=None)
    encoder.start_bundle()

    assert list(encoder.finish_bundle()) == []


def test_beam_writes_every_row_once():
    options = beam.options.pipeline_options.PipelineOptions(make_beam_args("local"))

    def check(records):
        rows = np.concatenate([decode_block(record, ["row"]) for _, record in records])
        assert sorted(rows[:, 0].tolist()) == list(range(6000))

    with beam.Pipeline(options=options) as pipeline:
        batches = pipeline | beam.Create(range(0, 6000, 1500)) | beam.Map(lambda begin: make_batch(begin, begin + 1500))
        assert_that(batches | beam.ParDo(EncodeBlocks(schema=None)), check)
