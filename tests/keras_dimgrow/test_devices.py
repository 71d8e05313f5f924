"""What devices are chosen, and which tables a GPU holds: decided without one."""

import json
import logging

import pytest
import tensorflow as tf

from keras_dimgrow import devices
from keras_dimgrow.devices import choose_strategy_kind, fit_on_gpu, place_tables


def tf_config(kind="worker", **cluster):
    return json.dumps({"cluster": cluster, "task": {"type": kind, "index": 0}})


@pytest.mark.parametrize(
    ("config", "num_gpus", "expected"),
    [
        ("", 0, "single"),
        ("", 1, "single"),
        ("", 8, "mirrored"),
        ("{}", 2, "mirrored"),
        (tf_config(worker=["a:1", "b:1"]), 0, "workers"),
        (tf_config(kind="chief", chief=["a:1"], worker=["b:1"]), 2, "workers"),
        (
            tf_config(kind="chief", chief=["a:1"]),
            4,
            "mirrored",
        ),  # a pool of one, as Vertex AI describes a single machine
    ],
)
def test_strategy_follows_from_workers_and_gpus(config, num_gpus, expected):
    assert choose_strategy_kind(config, num_gpus) == expected


@pytest.mark.parametrize("kind", ["ps", "evaluator"])
def test_a_process_that_would_not_train_is_refused(kind):
    with pytest.raises(ValueError, match=rf"task of type '{kind}'.*Leave pools"):
        choose_strategy_kind(tf_config(kind=kind, worker=["a:1", "b:1"]), 1)


def test_a_broken_tf_config_is_named():
    with pytest.raises(ValueError, match=r"TF_CONFIG is not JSON .* received '\{worker'"):
        choose_strategy_kind("{worker", 1)


@pytest.mark.parametrize(
    ("sizes", "limit", "expected"),
    [
        ([], 10, []),
        ([5, 5], 10, [True, True]),
        ([5, 6], 10, [True, False]),
        ([9, 1, 8, 1], 10, [False, True, True, True]),
        ([20, 1], 0, [False, False]),
    ],
)
def test_small_tables_go_to_the_gpu_first(sizes, limit, expected):
    assert fit_on_gpu(sizes, limit) == expected


def test_a_table_that_does_not_fit_goes_to_the_cpu_by_name(monkeypatch, caplog):
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: ["a GPU"])

    with caplog.at_level(logging.WARNING, logger="keras_dimgrow"):
        placed = place_tables({"user": 1_000_000, "hour": 24}, max_gpu_table_bytes=1_000_000)

    assert placed == [devices.CPU, None]
    assert "The table of 'user', about 0.01 GB with optimizer slots, goes to the CPU's memory" in caplog.text
    assert "'hour'" not in caplog.text


def test_the_default_limit_is_a_share_of_the_gpus_memory(monkeypatch):
    monkeypatch.setattr(devices, "_gpu_memory_bytes", lambda: 12_000)

    assert place_tables({"small": 600}) == [None]  # 7200 bytes of at most 8400
    assert place_tables({"large": 800}) == [devices.CPU]


def test_replicas_hold_all_tables_whatever_the_limit(caplog):
    placed = devices._place({"user": 1_000_000}, 1000, num_replicas=4)

    assert placed == [None]
    assert "more than max_gpu_table_bytes=1000: several GPUs hold the same tables" in caplog.text


def test_without_a_gpu_nothing_is_placed():
    assert place_tables({"user": 10**12}, max_gpu_table_bytes=1) == [None]
