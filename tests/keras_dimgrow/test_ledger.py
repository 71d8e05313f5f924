"""The ledger: what looks measured, smoothed; the plan within a budget; and what to search on with."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_dimgrow import Field
from keras_dimgrow.ledger import (
    ADDITIVE,
    CHEAP_SHARE,
    DOUBT_LOOKS,
    ERROR_WEIGHT,
    FURTHER_SHARE,
    MATERIAL_SHARE,
    MAX_TRIALS,
    PROOF,
    REST_LOOKS,
    SMOOTHING,
    TRUST,
    Ledger,
)
from keras_dimgrow.ledger import YOUNG_LOOKS as YOUNG

BIG = 10**9  # a budget of which no table here is a cheap part


def tables(*sizes, **options):
    return tuple(Field(name=f"f{i}", vocabulary_size=size, **options) for i, size in enumerate(sizes))


def ledger_of(sizes, gains, errors=None, ages=YOUNG + DOUBT_LOOKS, trials=None, additivity=None, **options) -> Ledger:
    """A ledger after a look: gains of each table's components, standard errors (0), ages, trials (1) and additivity (0)."""
    gains = [np.array(each, float) for each in gains]
    errors = [np.zeros(len(each)) for each in gains] if errors is None else [np.array(each, float) for each in errors]
    num = len(sizes)
    return Ledger(
        tables(*sizes, **options),
        gains,
        errors,
        np.full(num, ages) if np.isscalar(ages) else np.array(ages),
        np.ones(num, int) if trials is None else np.array(trials),
        np.zeros(num) if additivity is None else np.array(additivity, float),
    )


def dims_of(ledger: Ledger) -> np.ndarray:
    return np.array([len(gains) for gains in ledger.gains])


# Looks.


def test_the_first_look_is_taken_as_it_is():
    ledger = Ledger.at_start(tables(8, 9), [2, 1])

    ledger.add([np.array([0.4, 0.2]), np.array([0.1])], [np.array([0.03, 0.02]), np.array([0.01])], [0.0, 1.0])

    assert [gains.tolist() for gains in ledger.gains] == [[0.4, 0.2], [0.1]]
    assert [errors.tolist() for errors in ledger.errors] == [[0.03, 0.02], [0.01]]
    assert (ledger.ages.tolist(), ledger.trials.tolist()) == ([1, 1], [1, 1])


def test_looks_are_averaged_with_the_past_fading():
    ledger = Ledger.at_start(tables(8), [1])

    for gain in (1.0, 0.0, 0.0):
        ledger.add([np.array([gain])], [np.array([2 * gain])], [gain])

    assert ledger.gains[0] == pytest.approx([SMOOTHING**2])
    assert ledger.additivity == pytest.approx([(1 - SMOOTHING) * SMOOTHING**2])  # it starts at 0
    assert ledger.errors[0] == pytest.approx([2 * SMOOTHING**2])


def test_a_new_component_begins_with_its_first_value():
    ledger = ledger_of([8], [[1.0]])
    ledger.resize(np.array([1]), np.array([2]))

    ledger.add([np.array([1.0, 0.3])], [np.array([0.0, 0.1])], [0.0])

    assert ledger.gains[0] == pytest.approx([1.0, 0.3])
    assert ledger.errors[0] == pytest.approx([0.0, 0.1])


def test_what_is_cut_is_forgotten_and_its_age_goes_on():
    ledger = ledger_of([8], [[0.5, 0.2, 0.1]], ages=4)

    ledger.resize(np.array([3]), np.array([1]))

    assert ledger.gains[0].tolist() == [0.5]
    assert len(ledger.errors[0]) == 1
    assert ledger.ages.tolist() == [4]


def test_growth_and_the_last_cut_begin_a_new_age_and_only_beginnings_are_trials():
    ledger = ledger_of([8] * 4, [[0.5], [0.5], [], [0.5]], ages=7, trials=[1, 1, 0, 1])

    ledger.resize(np.array([1, 1, 0, 1]), np.array([2, 0, 1, 1]))

    assert ledger.ages.tolist() == [0, 0, 0, 7]
    assert ledger.trials.tolist() == [1, 1, 1, 1]


def test_a_ledger_goes_through_json():
    ledger = ledger_of([8, 9, 5], [[0.5, 0.25], [], [0.1]], [[0.1, 0.2], [], [0.3]], ages=[1, 2, 3], trials=[1, 0, 2])
    ledger.additivity[1] = 0.5

    again = Ledger.from_dict(ledger.tables, json.loads(json.dumps(ledger.to_dict())))

    assert again.to_dict() == ledger.to_dict()
    assert again.tables == ledger.tables
    again.add(*(2 * [[np.ones(2), np.zeros(0), np.ones(1)]]), np.zeros(3))  # arrays of the same kinds
    assert again.gains[1].shape == (0,)


def test_a_ledger_of_a_checkpoint_without_additivity_starts_it_at_0():
    values = ledger_of([8, 9], [[0.5], [0.1]], additivity=[1.0, 0.5]).to_dict()
    del values["additivity"]

    assert Ledger.from_dict(tables(8, 9), values).additivity.tolist() == [0, 0]


def test_a_copy_stays_as_it_was():
    ledger = ledger_of([8], [[0.5]])
    copy = ledger.copy()
    before = copy.to_dict()

    ledger.add([np.array([0.1])], [np.array([0.2])], [0.9])
    ledger.resize(np.array([1]), np.array([2]))

    assert copy.to_dict() == before != ledger.to_dict()


# Utilities.


def test_errors_are_added_to_a_first_gain_and_taken_off_further_ones():
    ledger = ledger_of([8], [[0.5, 0.3, 0.2]], [[0.1, 0.1, 0.1]])

    (u,) = ledger.utilities(error_weight=0.5)

    np.testing.assert_allclose(u, np.cumsum([0, 0.5 + 0.1 * TRUST, 0.25, 0.15]))


def test_a_component_within_its_error_adds_no_utility_unless_errors_are_left_out():
    ledger = ledger_of([8], [[0.5, 0.01]], [[0.0, 0.02 / ERROR_WEIGHT]])

    assert ledger.utilities()[0].tolist() == [0.0, 0.5, 0.5]
    np.testing.assert_allclose(ledger.utilities(0.0)[0], [0.0, 0.5, 0.51])


def test_a_further_dimension_of_a_plan_has_to_gain_a_part_of_the_total_beyond_its_error():
    gains = [[1.0, 2.1 * FURTHER_SHARE], [0.1, 2.1 * FURTHER_SHARE]]
    errors = [[0.1, 0.5 * FURTHER_SHARE / PROOF], [0.01, 1.5 * FURTHER_SHARE / PROOF]]

    assert ledger_of([20, 20], gains, errors).proven_dims(BIG, PROOF).tolist() == [2, 1]


def test_utilities_are_concave_whatever_was_measured():
    (u,) = ledger_of([8], [[0.1, -0.2, 0.5, 0.1]]).utilities()

    steps = np.diff(u)
    assert (steps >= 0).all()
    assert (np.diff(steps) <= 1e-12).all()


# The plan.


def test_the_plan_spends_parameters_where_they_gain_most():
    ledger = ledger_of([300, 10_000], [[0.2, 0.1], [0.5, 0.4]])

    assert ledger.proven_dims(300).tolist() == [1, 0]
    assert ledger.proven_dims(10_000).tolist() == [0, 1]
    assert ledger.proven_dims(10_600).tolist() == [2, 1]
    assert ledger.proven_dims(BIG).tolist() == [2, 2]


def test_a_table_that_may_be_useless_keeps_one_dimension_and_one_that_is_not_cheap_has_to_be_tried():
    errors = [[0.06], [0.01], [], [0.0]]
    ledger = ledger_of([10, 50, 10, 20], [[-0.1], [-0.1], [], [0.5]], errors)

    assert ledger.proven_dims(int(10 / CHEAP_SHARE)).tolist() == [1, 0, 1, 1]
    ledger.errors[0][:] = 0.03
    assert ledger.proven_dims(int(10 / CHEAP_SHARE) - 1).tolist() == [0, 0, 0, 1]


def test_a_cheap_table_that_is_proven_useless_is_removed():
    ledger = ledger_of([10, 20], [[-0.1], [0.5]], [[0.9 * 0.1 / TRUST], [0.0]])

    assert ledger.proven_dims(int(20 / CHEAP_SHARE)).tolist() == [0, 1]


def test_a_plan_keeps_the_best_field_it_can_pay_where_none_was_shown_to_help():
    ledger = ledger_of([100, 90, 80, 200], [[-0.2], [-0.1], [], [-0.01]])

    assert [ledger.proven_dims(budget).tolist() for budget in (199, 99, 89)] == [
        [0, 1, 0, 0],
        [0, 1, 0, 0],
        [0, 0, 1, 0],
    ]
    assert ledger.proven_dims(200).tolist() == [0, 0, 0, 1]
    with pytest.raises(ValueError, match=r"smallest field takes 80 parameters; received a budget of 79. Raise param"):
        ledger.proven_dims(79)


def test_cheap_tables_keep_one_only_as_far_as_min_dim_leaves_room():
    fields = (Field(name="fixed", vocabulary_size=995, min_dim=1), *tables(4, 5))
    ledger = Ledger(fields, [np.zeros(1)] * 3, [np.ones(1)] * 3, np.full(3, 9), np.ones(3, int), np.zeros(3))

    assert ledger.proven_dims(1000).tolist() == [1, 1, 0]


def test_a_table_keeps_its_min_dim_even_if_so_many_were_never_tried():
    ledger = ledger_of([100, 100], [[-0.1], [0.5, 0.4]], min_dim=3)

    assert ledger.proven_dims(BIG).tolist() == [3, 3]
    with pytest.raises(ValueError, match=r"the minimum alone takes 600 parameters; received budget=599"):
        ledger.proven_dims(599)


def test_a_plan_has_the_shape_of_what_is_proven_and_spare_dimensions():
    ledger = ledger_of([100] * 3, [[0.5, 0.4], [0.5, 0.1], [0.5]], [[0.1, 0.1], [0.1, 0.1], [0.1]])

    assert ledger.proven_dims(BIG).tolist() == [2, 2, 1]
    assert ledger.proven_dims(BIG, PROOF).tolist() == [2, 1, 1]
    assert ledger.plan_dims(800).tolist() == [4, 2, 2]
    assert ledger.plan_dims(BIG).tolist() == [8, 2, 2]


def test_tables_shown_to_need_one_dimension_get_a_second_one_and_more_only_of_what_others_leave():
    ledger = ledger_of([100] * 3, [[0.5, 0.4], [0.5, 0.1], [0.5]], [[0.1, 0.1], [0.1, 0.1], [0.1]])
    shape = np.array([2, 1, 1])

    assert ledger.filled(shape, 1600).tolist() == [12, 2, 2]
    assert ledger.filled(shape, 2100).tolist() == [16, 2, 2]  # 95% are used
    assert ledger.filled(shape, 2400).tolist() == [16, 4, 4]
    assert ledger.filled(shape, BIG).tolist() == [16, 16, 16]
    assert ledger.filled(np.array([1, 1, 1]), 1200).tolist() == [4, 4, 4]


def test_spare_dimensions_go_to_additive_tables_last():
    gains = [[0.5, 0.4], [0.5, 0.4], [0.5], [0.5]]
    ledger = ledger_of([100] * 4, gains, additivity=[0.0, ADDITIVE, 0.0, ADDITIVE])
    shape = np.array([2, 2, 1, 1])

    assert ledger.filled(shape, 1700).tolist() == [12, 2, 2, 1]
    assert ledger.filled(shape, 2400).tolist() == [16, 4, 2, 2]
    assert ledger.filled(shape, BIG).tolist() == [16, 16, 16, 16]


def test_what_is_left_for_all_goes_by_what_is_proven_whoever_was_first():
    ledger = ledger_of([100] * 4, [[0.5]] * 4, additivity=[0.0, 1.0, 1.0, 1.0])

    assert ledger.filled(np.ones(4, int), 3200).tolist() == [8, 8, 8, 8]


def test_a_plan_leaves_out_a_table_whose_first_dimension_gains_next_to_nothing_at_best():
    gains = [[1.0], [0.1 * MATERIAL_SHARE], [0.1 * MATERIAL_SHARE]]
    errors = [[0.01], [0.3 * MATERIAL_SHARE], [0.6 * MATERIAL_SHARE]]

    assert ledger_of([20, 20, 20], gains, errors).proven_dims(BIG).tolist() == [1, 0, 1]
    assert ledger_of([20, 20, 20], gains, errors, min_dim=1).proven_dims(BIG).tolist() == [1, 1, 1]


def test_tables_that_are_out_or_gain_next_to_nothing_get_nothing_of_what_is_left():
    gains = [[1.0], [0.1 * MATERIAL_SHARE], [-1.0], []]
    ledger = ledger_of([20, 20, 20, 20], gains, max_dim=12)

    assert ledger.filled(np.array([1, 1, 0, 1]), 10_000).tolist() == [12, 1, 0, 12]


SIZES = st.integers(2, 5000)
GAINS = st.lists(st.floats(-0.1, 1.0), max_size=6)


@st.composite
def ledgers(draw):
    """Ledgers with present dimensions, of tables with and without bounds."""
    fields, gains, errors = [], [], []
    for i in range(draw(st.integers(1, 6))):
        of_table = draw(GAINS)
        min_dim = draw(st.sampled_from([0, 0, 1, 2]))
        of_table += [0.1] * (min_dim - len(of_table))
        max_dim = max(len(of_table), min_dim, 1) + draw(st.integers(0, 3))
        fields.append(Field(name=f"f{i}", vocabulary_size=draw(SIZES), min_dim=min_dim, max_dim=max_dim))
        gains.append(np.array(of_table))
        errors.append(np.array(draw(st.lists(st.floats(0, 0.2), min_size=len(of_table), max_size=len(of_table)))))
    num = len(fields)
    ages = draw(st.lists(st.integers(0, 12), min_size=num, max_size=num))
    trials = draw(st.lists(st.integers(0, MAX_TRIALS), min_size=num, max_size=num))
    additivity = draw(st.lists(st.sampled_from([0.0, 0.8, ADDITIVE, 1.0]), min_size=num, max_size=num))
    return Ledger(fields, gains, errors, np.array(ages), np.array(trials), np.array(additivity))


@settings(max_examples=150, deadline=None)
@given(ledgers(), st.integers(1, 200_000), st.sampled_from([0.0, ERROR_WEIGHT, 1.0]))
def test_a_plan_is_within_the_budget_and_the_bounds_of_the_tables(ledger, more, error_weight):
    minimum = np.array([table.min_dim for table in ledger.tables])
    budget = max(int(ledger.sizes @ minimum) + more, int(ledger.sizes.min()))

    dims = ledger.plan_dims(budget, error_weight)

    assert ledger.sizes @ dims <= budget
    assert (dims >= minimum).all()
    assert dims.any()
    tried = [max(1, len(gains), least) for gains, least in zip(ledger.gains, minimum, strict=True)]
    assert (ledger.proven_dims(budget, error_weight) <= np.minimum(dims, tried)).all()
    assert (dims <= np.maximum([table.max_dim for table in ledger.tables], minimum)).all()


@settings(max_examples=200, deadline=None)
@given(ledgers(), st.floats(0.2, 3.0), st.sampled_from([1.0, 1.5]), st.booleans())
def test_a_search_never_holds_more_than_its_limit(ledger, share, kappa, may_begin):
    dims, sizes = dims_of(ledger), ledger.sizes
    minimum = np.array([table.min_dim for table in ledger.tables])
    budget = max(1, int(share * (sizes @ dims)), int(sizes @ minimum))
    limit = int(kappa * budget)
    if sizes @ dims > limit:  # no search comes here
        dims = np.minimum(dims, minimum)
        ledger.gains, ledger.errors = (
            [v[:d] for v, d in zip(vs, dims, strict=True)] for vs in (ledger.gains, ledger.errors)
        )

    after = ledger.next_dims(dims, budget, limit, may_begin)

    assert sizes @ after <= limit
    assert (after >= np.minimum(dims, minimum)).all()
    assert (after <= [table.max_dim for table in ledger.tables]).all()
    is_young = (dims > 0) & (ledger.ages < YOUNG)
    assert (after[is_young] == dims[is_young]).all()


# What to search on with.


def test_a_table_that_gains_grows_and_one_that_gained_more_grows_further():
    ledger = ledger_of([100, 100], [[0.5], [0.5, 0.4, 0.3, 0.2]])

    assert ledger.next_dims(dims_of(ledger), BIG, BIG).tolist() == [2, 6]


def test_young_columns_are_left_alone_even_if_they_seem_useless():
    ledger = ledger_of([100, 100], [[0.5, -0.1], [0.5, -0.1]], ages=[YOUNG - 1, YOUNG])

    after = ledger.next_dims(np.array([2, 2]), budget=1000, limit=300)

    assert after.tolist() == [2, 1]


def test_a_search_before_anything_can_be_judged_stays_as_it_is():
    ledger = ledger_of([100, 100], [[0.5], [0.1]], ages=0)

    assert ledger.next_dims(np.array([1, 1]), BIG, BIG).tolist() == [1, 1]


def test_what_proved_nothing_goes_when_its_room_is_needed_and_stays_while_it_is_not():
    ledger = ledger_of([100, 100], [[0.5, 0.4], [0.3, -0.1]])
    dims = np.array([2, 2])

    assert ledger.next_dims(dims, BIG, limit=500).tolist() == [3, 2]
    assert ledger.next_dims(dims, BIG, limit=400).tolist() == [3, 1]


def test_max_dim_ends_growth():
    ledger = ledger_of([100], [[0.5, 0.4, 0.3]], max_dim=3)

    assert ledger.next_dims(np.array([3]), BIG, BIG).tolist() == [3]


def test_a_first_dimension_that_gains_nothing_is_doubted_for_some_looks_before_it_goes():
    gains, dims = [[0.5], [-0.1]], np.array([1, 1])
    doubted = ledger_of([100, 900], gains, ages=DOUBT_LOOKS - 1)
    given_up = ledger_of([100, 900], gains, ages=DOUBT_LOOKS)

    assert doubted.next_dims(dims, 20_000, limit=1100).tolist() == [2, 1]
    assert given_up.next_dims(dims, 20_000, limit=1050).tolist() == [2, 0]


def test_min_dim_and_cheap_tables_stay_whatever_they_gain():
    gains = [[-0.1, -0.1], [0.5]]

    assert ledger_of([900, 100], gains, min_dim=1).next_dims(np.array([2, 1]), 5000, limit=1100).tolist() == [1, 2]
    cheap = ledger_of([10, 1000], [[-0.1], [0.5]])
    assert cheap.next_dims(np.array([1, 1]), int(10 / CHEAP_SHARE), limit=1010).tolist() == [1, 1]


def test_a_table_that_did_not_fit_at_the_start_gets_its_trial_when_there_is_room():
    ledger = ledger_of([100, 700], [[0.5, -0.1], []], trials=[1, 0])
    dims = np.array([2, 0])

    assert ledger.next_dims(dims, 800, limit=900).tolist() == [2, 1]
    assert ledger.next_dims(dims, 800, limit=800).tolist() == [1, 1]
    assert ledger.next_dims(dims, 800, limit=700)[1] == 0


def test_no_table_begins_that_the_budget_never_allows_or_when_no_time_is_left():
    ledger = ledger_of([100, 700], [[0.5], []], trials=[1, 0])
    dims = np.array([1, 0])

    assert ledger.next_dims(dims, budget=699, limit=1000)[1] == 0
    assert ledger.next_dims(dims, budget=700, limit=1000, may_begin=False)[1] == 0
    assert ledger.next_dims(dims, budget=700, limit=1000)[1] == 1


def test_no_table_begins_while_nothing_is_known_to_be_worth_anything():
    ledger = ledger_of([100, 700], [[-0.5], []], trials=[1, 0])

    assert ledger.next_dims(np.array([1, 0]), BIG, BIG)[1] == 0


def test_a_table_that_was_given_up_is_tried_again_after_a_rest_but_not_for_ever():
    def begins(ages, trials):
        ledger = ledger_of([100, 700], [[0.5], []], ages=[9, ages], trials=[1, trials])
        return bool(ledger.next_dims(np.array([1, 0]), BIG, BIG)[1])

    assert not begins(REST_LOOKS - 1, 1)
    assert [begins(REST_LOOKS, trials) for trials in range(1, MAX_TRIALS + 2)] == [
        trials < MAX_TRIALS for trials in range(1, MAX_TRIALS + 2)
    ]
    assert not begins(1000, MAX_TRIALS)


def test_a_useless_table_begins_at_most_max_trials_times_in_a_whole_search():
    ledger = Ledger.at_start(tables(100, 700), [1, 1])
    dims, num_begins = np.array([1, 1]), 1
    for _ in range(100):
        gains = [np.full(dims[0], 0.5), np.full(dims[1], -0.1)]
        ledger.add(gains, [np.zeros(dim) for dim in dims], np.zeros(2))
        after = ledger.next_dims(dims, 2000, limit=2000)
        ledger.resize(dims, after)
        num_begins += int(dims[1] == 0 and after[1] > 0)
        dims = after

    assert num_begins == ledger.trials[1] == MAX_TRIALS
    assert dims[1] == 0
