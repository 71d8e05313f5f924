"""Two replicas in one process (MirroredStrategy and fit), and two processes (a custom loop); all on CPU."""

import json
import os
import pathlib
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).parents[2]


def run(module_and_arguments, directory, configurations=(None,), timeout_s=600):
    """The JSON that a module prints, run in one process for each TF_CONFIG; no process outlives the call."""
    processes, logs = [], []
    try:
        for index, configuration in enumerate(configurations):
            logs.append(directory / f"{index}.log")
            environment = os.environ | {"CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "2"}
            if configuration is not None:
                environment["TF_CONFIG"] = json.dumps(configuration)
            with open(directory / f"{index}.json", "w") as stdout, open(logs[-1], "w") as stderr:
                command = [sys.executable, "-m", *module_and_arguments]
                processes.append(subprocess.Popen(command, cwd=ROOT, env=environment, stdout=stdout, stderr=stderr))
        deadline = time.monotonic() + timeout_s
        # A worker whose peer failed would wait for it for ever.
        while {process.poll() for process in processes} - {0} == {None} and time.monotonic() < deadline:
            time.sleep(0.1)
    finally:
        for process in processes:
            process.kill()
            process.wait()
    ends = [f"exit status {p.returncode}:\n{log.read_text()[-3000:]}" for p, log in zip(processes, logs, strict=True)]
    assert not any(process.returncode for process in processes), "\n".join(ends)
    return [json.loads(log.with_suffix(".json").read_text()) for log in logs]


def cluster_of_two():
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    addresses = [f"127.0.0.1:{s.getsockname()[1]}" for s in sockets]
    for s in sockets:
        s.close()
    return [{"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}} for index in range(2)]


@pytest.fixture(scope="module")
def mirrored_quick(tmp_path_factory):
    """What `distributed_run.mirrored_quick` measured on two logical devices."""
    return run(["tests.keras_dimgrow.distributed_run", "mirrored_quick"], tmp_path_factory.mktemp("quick"))[0]


@pytest.fixture(scope="module")
def mirrored(tmp_path_factory):
    """What `distributed_run.mirrored` measured on two logical devices, in half a minute."""
    return run(["tests.keras_dimgrow.distributed_run", "mirrored"], tmp_path_factory.mktemp("mirrored"))[0]


@pytest.fixture(scope="module")
def workers(tmp_path_factory):
    """What each of two workers measured."""
    directory = tmp_path_factory.mktemp("workers")
    return run(["tests.keras_dimgrow.distributed_run", "worker"], directory, cluster_of_two())


# Two replicas.


@pytest.fixture(params=["float32", pytest.param("mixed_float16", marks=pytest.mark.slow)])
def grown(request):
    """A fit with growth under a dtype policy."""
    return request.getfixturevalue("mirrored_quick" if request.param == "float32" else "mirrored")[request.param]


def test_fit_under_a_mirrored_strategy_grows_drops_and_revives_with_one_trace(grown):
    assert grown["kinds"] == ["drop", "grow", "revive"]
    assert max(grown["allocated"]) > 1
    assert grown["traces"] == 1
    assert grown["losses"][-1] < grown["losses"][0]
    assert grown["predictions"] == 1001


def test_replicas_of_all_variables_and_slots_stay_equal_bit_for_bit(grown):
    assert grown["unreplicated"] == []
    assert grown["replicas_differ"] == []


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["LazyAdam", "GrowableAdam"])
def test_two_replicas_train_as_one_device_does_on_the_same_global_batches(mirrored, optimizer):
    single, both = (mirrored[f"open gates, {optimizer}"][key] for key in ("single", "mirrored"))

    assert both["dims"] == single["dims"] == [7, 7, 7]
    assert both["replicas_differ"] == []
    assert_near(both, single)


def assert_near(found, expected):
    # Sums over replicas have another order than sums over the batch.
    np.testing.assert_allclose(found["losses"], expected["losses"], atol=1e-5)
    for values, expected_values in zip(found["weights"], expected["weights"], strict=True):
        np.testing.assert_allclose(values, expected_values, atol=2e-5)


def test_lazy_adam_sums_a_row_over_replicas_before_it_squares(mirrored_quick):
    found = mirrored_quick["rows_of_two_replicas"]

    assert found["velocity"] == pytest.approx([0.001 * (1 + 2 + 4) ** 2, 0.001 * 3**2, 0.001 * 5**2])
    assert found["replicas_differ"] == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "copy", [".keras", "weights, single", "checkpoint, single", "weights, mirrored", "checkpoint, mirrored"]
)
def test_a_grown_model_of_two_replicas_is_saved_and_loaded(mirrored, copy):
    found = mirrored["saved"][copy]

    assert found["is_equal"]
    assert found["distance"] < 1e-6
    assert found["replicas_differ"] == []


@pytest.mark.slow
def test_a_search_under_a_mirrored_strategy_goes_on_after_an_interruption_as_if_there_was_none(mirrored):
    found = mirrored["resumed"]

    assert found["kinds"] == ["drop", "grow", "revive"]
    assert found["trajectories_equal"]
    assert found["values_equal"]


@pytest.mark.slow
def test_evaluate_under_a_mirrored_strategy_counts_each_row_once(mirrored):
    found = mirrored["resumed"]

    assert found["validation_rows"] == 1000
    assert found["validation_loss"] == pytest.approx(found["keras_validation_loss"], rel=1e-5)


@pytest.mark.slow
def test_retrain_under_a_mirrored_strategy_learns(mirrored):
    assert mirrored["retrained"]["log_loss"] < 0.69
    assert mirrored["retrained"]["replicas_differ"] == []


@pytest.mark.slow
def test_a_model_of_two_replicas_has_a_copy_of_one_device_to_export(mirrored):
    assert mirrored["retrained"]["unreplicated_in_copy"] == 1.0
    assert mirrored["retrained"]["log_loss_of_copy"] == pytest.approx(mirrored["retrained"]["log_loss"], rel=1e-5)


def test_a_table_without_columns_does_not_crash_the_step_of_two_replicas(mirrored_quick):
    found = mirrored_quick["table_without_columns"]

    assert found == {"dims": [0, 2, 0], "is_trained": True, "replicas_differ": []}


@pytest.mark.slow
def test_the_default_search_finds_on_two_replicas_and_with_two_workers_what_it_finds_on_one_device(tmp_path):
    module = "tests.keras_dimgrow.distributed_run"
    for name in ("devices", "workers"):
        (tmp_path / name).mkdir()
    one_process = run([module, "default_search"], tmp_path / "devices")[0]
    first, second = run([module, "default_search_worker"], tmp_path / "workers", cluster_of_two())
    single = one_process["single"]

    assert first == second
    assert any(record["noise"] == 0 for record in single["dimensions"])  # a table without columns
    assert single["num_raced"] > 0
    for both in (one_process["mirrored"], first):
        for key in ("dimensions", "plan", "num_raced"):
            assert both[key] == single[key]
        assert both["replicas_differ"] == []
        np.testing.assert_allclose(both["losses"], single["losses"], atol=1e-4)
        assert both["retrained"] == pytest.approx(single["retrained"], abs=1e-4)


def test_a_placed_table_and_its_slots_stay_where_they_are(mirrored_quick):
    found = mirrored_quick["placed"]

    assert found["devices"] == [["CPU:0"], ["CPU:1"], ["CPU:0"]]
    assert found["dims"] == [2, 3, 1]
    assert found["losses"][-1] < found["losses"][0]


# Two workers.


@pytest.mark.slow
def test_two_workers_with_seeds_of_their_own_end_with_equal_plans_and_variables(workers):
    first, second = workers

    assert first["kinds"] == ["drop", "grow", "revive"]
    assert first["traces"] == 1
    assert first["unreplicated"] == []
    assert first == second


@pytest.mark.slow
def test_two_workers_train_as_one_device_does_on_the_same_global_batches(workers, tmp_path):
    (single,) = run(["tests.keras_dimgrow.distributed_run", "single"], tmp_path)

    assert workers[0]["open gates"]["dims"] == single["dims"]
    assert_near(workers[0]["open gates"], single)


@pytest.mark.slow
def test_the_example_for_several_workers_ends_alike_on_both(tmp_path):
    first, second = run(["examples.several_workers"], tmp_path, cluster_of_two())

    assert first == second
    changes = np.diff([[1, 1, 1], *first["trajectory"]], axis=0)
    assert changes.max() > 0 > changes.min()
    assert first["plan"]["hour"] == 0
