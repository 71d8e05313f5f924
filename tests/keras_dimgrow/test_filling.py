"""fill: what a budget has left goes to the tables that are kept, in proportion."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_dimgrow.filling import ALPHA, MIN_USED_SHARE, fill
from keras_dimgrow.methods.scaling import scale_dimensions


def test_equal_tables_share_alike_and_removed_ones_get_nothing():
    assert fill(np.array([1, 0, 1]), np.array([10, 10, 10]), 100, [16] * 3).tolist() == [5, 0, 5]


def test_what_was_needed_keeps_its_shape():
    assert fill(np.array([4, 2, 1]), np.array([100] * 3), 1400, [16] * 3).tolist() == [8, 4, 2]


def test_small_vocabularies_get_more_as_in_mixed_dimensions():
    sizes = np.array([10, 100, 1000, 10_000])
    budget = 12_300

    filled = fill(np.ones(4, int), sizes, budget, [16] * 4)

    bounds = [(1, 16)] * 4
    assert filled.tolist() == scale_dimensions((sizes**-ALPHA).tolist(), bounds, sizes.tolist(), budget)


def test_a_table_whose_next_column_does_not_fit_is_passed_over_only_while_much_is_left():
    assert fill(np.array([1, 1]), np.array([1000, 10]), 1500, [16, 16]).tolist() == [1, 16]
    assert fill(np.array([1, 1]), np.array([1000, 10]), 1030, [16, 16]).tolist() == [1, 2]


def test_tables_with_more_than_the_most_keep_what_they_have():
    assert fill(np.array([20, 1]), np.array([10, 10]), 1000, [16, 16]).tolist() == [20, 16]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(2, 10_000), st.integers(0, 4)), min_size=1, max_size=8), st.floats(1.0, 20.0))
def test_a_filled_plan_fits_and_leaves_little(tables, share):
    sizes, dims = (np.array(values) for values in zip(*tables, strict=True))
    budget = int(share * (sizes @ dims))

    filled = fill(dims, sizes, budget, [16] * len(sizes))

    assert sizes @ filled <= budget
    assert (filled >= dims).all()
    assert ((filled > 0) == (dims > 0)).all()
    growing = (dims > 0) & (filled < 16)
    if growing.any() and sizes @ filled < MIN_USED_SHARE * budget:
        assert sizes[growing].min() > budget - sizes @ filled
