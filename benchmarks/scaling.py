"""Time of a step of the default search as tables get longer: 1M, 4M and 16M rows with the same dimensions.

Criteo profile: 39 fields, Zipf ids, 141 dimensions, batch 2048; at 16M rows tables and slots take about 0.5 GB. Ids beyond a
table wrap around: if they were its last one, as in the other benchmarks, short tables would have fewer distinct rows a batch.
`python benchmarks/scaling.py`: about 8 minutes on 2 cores.
"""

import functools
import sys

from criteo_profile import make_batches, make_default_search_model, make_fields, mixed_dims, time_fit
from harness import Figure, main

MILLIONS = (1, 4, 16)


def time_rows(millions: int) -> dict[str, float]:
    """Median milliseconds of a step with so many table rows, and bytes of tables with slots."""
    fields, dims = make_fields(millions * 1_000_000), mixed_dims()
    milliseconds = time_fit(make_default_search_model(fields, dims), make_batches(fields, 2048, wraps=True))
    parameters = sum(field.vocabulary_size * dim for field, dim in zip(fields, dims, strict=True))
    return {"ms": milliseconds, "table_bytes": 12 * parameters}


CASES = {f"{millions}M": functools.partial(time_rows, millions) for millions in MILLIONS}


def ratio(a: str, b: str):
    return lambda results: results[a]["ms"] / results[b]["ms"]


FIGURES = [
    Figure("search step: 4M rows / 1M rows", 1.3, 1.0, ratio("4M", "1M")),
    Figure("search step: 16M rows / 1M rows", 1.3, 1.0, ratio("16M", "1M")),
]

if __name__ == "__main__":
    sys.exit(main(__file__, "Step of the default search against table rows, Criteo profile", CASES, FIGURES))
