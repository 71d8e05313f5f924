"""The growth policy: closed-form decisions of section 4.2.2, and properties that hold for any gates."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_dimgrow import Field, GrowthConfig
from keras_dimgrow.policy import (
    ABSENT,
    BACKOFF,
    QUIET,
    REVIVALS,
    STATE_COLUMNS,
    WAIT,
    Action,
    Allocation,
    decide,
    has_converged,
)


def make_fields(*sizes, **options) -> list[Field]:
    return [Field(name=f"f{i}", vocabulary_size=size, **options) for i, size in enumerate(sizes)]


def fresh(num_fields: int) -> np.ndarray:
    return np.zeros((num_fields, STATE_COLUMNS), np.int32)


def check(gates, state=None, fields=None, **config):
    """Actions as "kind index", and the new state."""
    gates = [np.array(g, float) for g in gates]
    fields = fields or make_fields(*[10] * len(gates))
    actions, state = decide(fields, gates, fresh(len(gates)) if state is None else state, GrowthConfig(**config))
    return [f"{action.kind} {action.index}" for action in actions], state


# Thresholds: T_up and T_down of the paper.


@pytest.mark.parametrize(
    ("gates", "expected"),
    [
        ([0.61], ["grow 0"]),
        ([0.6], []),
        ([0.99, 0.61], ["grow 0"]),
        ([0.99, 0.59], []),
        ([0.5], []),
        ([0.01], []),
        ([0.0099], ["drop 0"]),
        ([0.99, 0.0099], ["drop 0"]),
        ([0.001, 0.002, 0.003], ["drop 0"]),
        ([], []),
    ],
)
def test_a_field_grows_when_all_gates_are_above_t_up_and_drops_one_dimension_when_one_is_below_t_down(gates, expected):
    assert check([gates])[0] == expected


def test_each_field_decides_by_its_own_gates():
    assert check([[0.7], [0.005], [0.5], [0.8, 0.9]])[0] == ["drop 1", "grow 3", "grow 0"]


def test_the_thresholds_are_settings():
    assert check([[0.72], [0.2]], grow_threshold=0.75, shrink_threshold=0.25)[0] == ["drop 1"]


@pytest.mark.parametrize(("gates", "expected"), [([0.001, 0.9], ["drop 0"]), ([0.001], [])])
def test_a_field_never_falls_below_its_min_dim(gates, expected):
    assert check([gates], fields=make_fields(10, min_dim=1))[0] == expected


@pytest.mark.parametrize(("gates", "expected"), [([0.9], ["grow 0"]), ([0.9, 0.9], [])])
def test_a_field_never_rises_above_its_max_dim(gates, expected):
    assert check([gates], fields=make_fields(10, max_dim=2))[0] == expected


# Budgets.


def test_at_a_budget_the_highest_smallest_gate_per_parameter_grows_first():
    fields = make_fields(10, 30, 20)

    # Smallest gates per parameter: .07, .03, .04.
    assert check([[0.7], [0.9], [0.8, 0.99]], fields=fields)[0] == ["grow 0", "grow 2", "grow 1"]
    assert check([[0.7], [0.9], [0.8, 0.99]], fields=fields, max_total_dims=6)[0] == ["grow 0", "grow 2"]
    assert check([[0.7], [0.9], [0.8, 0.99]], fields=fields, max_parameters=90)[0] == ["grow 0"]


def test_a_field_too_big_for_the_rest_of_the_budget_lets_a_smaller_one_grow():
    assert check([[0.99], [0.61]], fields=make_fields(40, 30), max_parameters=105)[0] == ["grow 1"]


def test_what_a_drop_frees_can_be_used_at_the_same_check():
    assert check([[0.9], [0.9, 0.001]], max_total_dims=3)[0] == ["drop 1", "grow 0"]


def test_a_budget_holds_exactly():
    assert check([[0.9], [0.9]], max_total_dims=4)[0] == ["grow 0", "grow 1"]
    assert check([[0.9], [0.9]], max_parameters=40)[0] == ["grow 0", "grow 1"]
    assert check([[0.9], [0.9]], max_parameters=39)[0] == ["grow 0"]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"max_total_dims": 3}, "max_total_dims=3 is below one dimension for each of the 3 fields, which takes 4 dim"),
        ({"max_parameters": 69}, "max_parameters=69 .* takes 70 parameters. Raise max_parameters to at least 70"),
        ({"max_table_bytes": 839}, "max_table_bytes=839 .* takes 840 bytes. Raise max_table_bytes to at least 840"),
    ],
)
def test_a_budget_below_the_start_of_the_search_is_refused(config, message):
    fields = [*make_fields(10, 20), Field(name="wide", vocabulary_size=20, min_dim=2)]

    with pytest.raises(ValueError, match=message):
        GrowthConfig(**config).require_room_for(fields, bytes_per_parameter=12)
    GrowthConfig(max_total_dims=4, max_parameters=70, max_table_bytes=840).require_room_for(fields, 12)


def check_bytes(gates, allocated, budget, sizes=None, bytes_per_parameter=12):
    """Actions as "kind index" under a budget in bytes."""
    fields, gates = make_fields(*(sizes or [10] * len(gates))), [np.array(g, float) for g in gates]
    allocation = Allocation(allocated, bytes_per_parameter)
    config = GrowthConfig(max_table_bytes=budget, revive_after_checks=1)
    actions, _ = decide(fields, gates, fresh(len(fields)), config, allocation)
    return [f"{action.kind} {action.index}" for action in actions]


@pytest.mark.parametrize(("budget", "expected"), [(480, ["grow 0", "grow 1"]), (479, ["grow 0"]), (359, [])])
def test_a_budget_in_bytes_counts_slots_and_holds_exactly(budget, expected):
    assert check_bytes([[0.9], [0.8]], [1, 1], budget) == expected


def test_a_dropped_column_keeps_its_memory_and_costs_none_when_it_is_used_again():
    assert check_bytes([[0.9], [0.9]], [2, 1], 360) == ["grow 0"]
    assert check_bytes([[], [0.9]], [1, 1], 240) == ["revive 0"]
    # What this check drops frees nothing.
    assert check_bytes([[0.9], [0.9, 0.001]], [1, 2], 360) == ["drop 1"]


def test_without_an_allocation_all_is_in_use_in_float32():
    gates = [np.array([0.9])]

    assert decide(make_fields(10), gates, fresh(1), GrowthConfig(max_table_bytes=80))[0] == [Action("grow", 0)]
    assert decide(make_fields(10), gates, fresh(1), GrowthConfig(max_table_bytes=79))[0] == []


# Back-off, revival.


def test_a_field_that_lost_a_dimension_waits_before_it_grows_and_twice_as_long_the_next_time():
    state, waits = fresh(1), []
    for _ in range(5):
        actions, state = check([[0.9, 0.001]], state, backoff_checks=3, max_backoff_doublings=2)
        assert actions == ["drop 0"]
        checks = 0
        # The growth is denied by the budget, else it would shorten the next wait.
        while state[0, WAIT] > 0:
            actions, state = check([[0.9]], state, backoff_checks=3, max_backoff_doublings=2, max_total_dims=1)
            assert actions == []
            checks += 1
        waits.append(checks)

    assert waits == [3, 6, 12, 12, 12]


def test_a_field_grows_when_its_wait_is_over():
    _, state = check([[0.9, 0.001]], backoff_checks=2)

    first, state = check([[0.9]], state, backoff_checks=2)
    second, state = check([[0.9]], state, backoff_checks=2)

    assert (first, second) == ([], ["grow 0"])


def test_a_growth_shortens_the_next_wait_again():
    state = fresh(1)
    state[0, BACKOFF] = 2

    _, state = check([[0.9]], state)

    assert state[0, BACKOFF] == 1


def test_the_longest_wait_saturates_and_never_wraps():
    state = fresh(1)
    for _ in range(80):
        _, state = check([[0.9, 0.001]], state, backoff_checks=4, max_backoff_doublings=1000)
        assert state[0, WAIT] > 0

    assert state[0, WAIT] == np.iinfo(np.int32).max


def test_a_field_at_zero_dimensions_is_revived_after_a_while_and_only_so_often():
    config = {"revive_after_checks": 3, "max_revivals": 2}
    actions, state = check([[0.001]], **config)
    assert actions == ["drop 0"]

    history = []
    for _ in range(2):
        for _ in range(3):
            actions, state = check([[]], state, **config)
            history.append(actions)
        actions, state = check([[0.001]], state, **config)
        assert actions == ["drop 0"]
    for _ in range(20):
        actions, state = check([[]], state, **config)
        history.append(actions)

    assert history == 2 * [[], [], ["revive 0"]] + 20 * [[]]


def test_a_revival_comes_before_growth_at_a_budget_and_waits_for_room():
    state = fresh(2)
    state[0, ABSENT] = 10

    assert check([[], [0.9]], state, max_total_dims=2)[0] == ["revive 0"]
    denied, state = check([[], [0.9]], state, max_total_dims=1)
    assert denied == []
    assert state[0, REVIVALS] == 0
    assert check([[], [0.9]], state, max_total_dims=2)[0] == ["revive 0"]


def test_a_denied_growth_changes_no_counter_but_the_quiet_one():
    actions, state = check([[0.9]], max_total_dims=1)

    expected = fresh(1)
    expected[0, QUIET] = 1
    assert actions == []
    np.testing.assert_array_equal(state, expected)


# Convergence.

QUIET_STATE = np.array([[0, 0, 0, 0, 40], [0, 0, 0, 0, 50]], np.int32)


def converged(gates, state=QUIET_STATE, patience=40, **config) -> bool:
    gates = [np.array(g, float) for g in gates]
    return has_converged(make_fields(10, 10), gates, state, patience, GrowthConfig(**config))


def test_a_quiet_search_with_decided_gates_has_converged():
    assert converged([[0.9, 0.02], [0.55]])


def test_a_search_goes_on_while_any_field_changed_lately():
    assert not converged([[0.9], [0.9]], patience=41)


@pytest.mark.parametrize(("undecided", "expected"), [(0.3, False), (0.1, True), (0.5, True)])
def test_a_search_goes_on_while_more_than_a_twentieth_of_the_gates_is_undecided(undecided, expected):
    assert converged([[undecided], [0.9]]) is expected


def test_one_undecided_gate_in_twenty_is_allowed():
    assert converged([[0.9] * 19, [0.3]])
    assert not converged([[0.9] * 18, [0.3]])


def test_gates_of_fields_that_are_not_searched_say_nothing_about_the_others():
    fields = [Field(name="fixed", vocabulary_size=10, min_dim=32, max_dim=32), *make_fields(10)]

    assert not has_converged(fields, [np.ones(32), np.array([0.3])], QUIET_STATE, 40, GrowthConfig())
    assert has_converged(fields, [np.ones(32), np.array([0.9])], QUIET_STATE, 40, GrowthConfig())
    assert has_converged(fields[:1], [np.ones(32)], QUIET_STATE[:1], 40, GrowthConfig())


@pytest.mark.parametrize(("revivals", "expected"), [(1, False), (2, True)])
def test_a_search_goes_on_while_a_field_waits_for_revival(revivals, expected):
    state = QUIET_STATE.copy()
    state[0, REVIVALS] = revivals

    assert converged([[], [0.9]], state, max_revivals=2) is expected


@pytest.mark.parametrize("budget", [{"max_total_dims": 2}, {"max_parameters": 29}])
def test_a_revival_that_the_budget_denies_does_not_keep_a_search_going(budget):
    assert converged([[], [0.9, 0.9]], **budget)


def test_a_search_that_removed_every_field_for_good_has_converged():
    state = QUIET_STATE.copy()
    state[:, REVIVALS] = 2

    assert converged([[], []], state, max_revivals=2)


# Properties.


@st.composite
def searches(draw):
    """Fields, a config whose budgets hold at the start, and gates for some checks."""
    num_fields = draw(st.integers(1, 4))
    fields = []
    for i in range(num_fields):
        low = draw(st.integers(0, 2))
        fields.append(
            Field(
                name=f"f{i}",
                vocabulary_size=draw(st.integers(2, 50)),
                min_dim=low,
                max_dim=draw(st.integers(max(1, low), 5)),
            )
        )
    start = sum(max(1, f.min_dim) for f in fields)
    start_parameters = sum(f.vocabulary_size * max(1, f.min_dim) for f in fields)
    config = GrowthConfig(
        backoff_checks=draw(st.integers(0, 3)),
        max_backoff_doublings=draw(st.integers(0, 3)),
        revive_after_checks=draw(st.integers(1, 3)),
        max_revivals=draw(st.integers(0, 2)),
        max_total_dims=draw(st.none() | st.integers(start, start + 6)),
        max_parameters=draw(st.none() | st.integers(start_parameters, start_parameters + 200)),
    )
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return fields, config, rng


def run_checks(fields, config, rng, num_checks=30):
    """Plays checks with gates that rush to either end; yields dims before, gates, actions, state before and after."""
    dims = [max(1, field.min_dim) for field in fields]
    state = fresh(len(fields))
    for _ in range(num_checks):
        gates = [rng.choice([0.001, 0.3, 0.65, 0.95], size=d) for d in dims]
        before = state.copy()
        actions, after = decide(fields, gates, state, config)
        np.testing.assert_array_equal(state, before)  # pure: the state given is not modified
        yield list(dims), gates, actions, before, after
        for action in actions:
            dims[action.index] += -1 if action.kind == "drop" else 1
        state = after


@given(searches())
@settings(max_examples=60, deadline=None)
def test_no_search_ever_leaves_its_budgets_or_the_bounds_of_a_field(search):
    fields, config, rng = search

    for dims, *_ in run_checks(fields, config, rng):
        for field, dim in zip(fields, dims, strict=True):
            assert field.min_dim <= dim <= field.max_dim
        if config.max_total_dims is not None:
            assert sum(dims) <= config.max_total_dims
        if config.max_parameters is not None:
            assert sum(f.vocabulary_size * d for f, d in zip(fields, dims, strict=True)) <= config.max_parameters


@given(searches(), st.integers(0, 400), st.sampled_from([4, 12]))
@settings(max_examples=60, deadline=None)
def test_allocated_tables_never_exceed_a_budget_in_bytes(search, spare_parameters, bytes_per_parameter):
    fields, config, rng = search
    sizes = np.array([field.vocabulary_size for field in fields])
    used = np.array([max(1, field.min_dim) for field in fields])
    allocated, state = used.copy(), fresh(len(fields))
    budget = int((sizes * used).sum() + spare_parameters) * bytes_per_parameter
    config = GrowthConfig.from_dict(config.to_dict() | {"max_table_bytes": budget})
    config.require_room_for(fields, bytes_per_parameter)

    for _ in range(30):
        gates = [rng.choice([0.001, 0.3, 0.65, 0.95], size=d) for d in used]
        actions, state = decide(fields, gates, state, config, Allocation(allocated, bytes_per_parameter))
        for action in actions:
            used[action.index] += -1 if action.kind == "drop" else 1
        allocated = np.maximum(allocated, used)
        assert (sizes * allocated).sum() * bytes_per_parameter <= budget


@given(searches())
@settings(max_examples=60, deadline=None)
def test_a_field_changes_at_most_once_a_check_and_only_for_a_reason(search):
    fields, config, rng = search

    for dims, gates, actions, before, after in run_checks(fields, config, rng):
        indices = [action.index for action in actions]
        assert len(set(indices)) == len(indices)
        for action in actions:
            i = action.index
            if action.kind == "drop":
                assert gates[i].min() < config.shrink_threshold
            elif action.kind == "grow":
                assert gates[i].min() > config.grow_threshold
                assert before[i, WAIT] <= 1
            else:
                assert dims[i] == 0
                assert before[i, REVIVALS] < config.max_revivals
            assert after[i, QUIET] == 0
        assert [a.kind for a in actions] == sorted((a.kind for a in actions), key=["drop", "revive", "grow"].index)


@given(searches())
@settings(max_examples=60, deadline=None)
def test_counters_stay_in_their_ranges(search):
    fields, config, rng = search

    for _, _, _, _, state in run_checks(fields, config, rng):
        assert (state >= 0).all()
        assert (state[:, WAIT] <= config.backoff_checks << config.max_backoff_doublings).all()
        assert (state[:, BACKOFF] <= config.max_backoff_doublings).all()
        assert (state[:, REVIVALS] <= config.max_revivals).all()
        assert state.dtype == np.int32


@given(searches())
@settings(max_examples=40, deadline=None)
def test_denied_growths_are_no_better_per_parameter_than_granted_ones_of_a_field_as_small(search):
    fields, config, rng = search

    for _, gates, actions, before, _ in run_checks(fields, config, rng):
        granted = {a.index for a in actions if a.kind == "grow"}
        touched = {a.index for a in actions}
        for i, field in enumerate(fields):
            wants = (
                i not in touched
                and 0 < len(gates[i]) < field.max_dim
                and gates[i].min() > config.grow_threshold
                and before[i, WAIT] <= 1
            )
            for j in granted if wants else ():
                if fields[j].vocabulary_size >= field.vocabulary_size:
                    assert gates[j].min() / fields[j].vocabulary_size >= gates[i].min() / field.vocabulary_size


def test_the_same_gates_give_the_same_decisions():
    search = (make_fields(10, 20, 30), GrowthConfig(max_total_dims=6))
    runs = [[actions for _, _, actions, _, _ in run_checks(*search, np.random.default_rng(3))] for _ in range(2)]

    assert runs[0] == runs[1]
    assert Action("grow", 0) in [action for actions in runs[0] for action in actions]
