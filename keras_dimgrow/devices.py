"""Which devices a process computes on, and which of them hold which embedding table.

What decides is pure: `choose_strategy_kind` takes what TF_CONFIG says and a number of GPUs, `fit_on_gpu` sizes and a limit.
"""

import contextlib
import json
import logging
import os
from collections.abc import Mapping, Sequence

import tensorflow as tf
from tensorflow.python.client import device_lib

logger = logging.getLogger(__name__)

# Of a GPU's memory for tables with their slots: the rest is for a grown table beside the old one, and for batches.
GPU_TABLE_SHARE = 0.7
BYTES_PER_TRAINED_PARAMETER = 12  # float32 value and LazyAdam's two slots
CPU = "CPU:0"


def choose_strategy_kind(tf_config: str, num_gpus: int) -> str:
    """What a process trains by: "workers" (several processes), "mirrored" (several GPUs of this one) or "single".

    Args:
        tf_config: the environment's TF_CONFIG, JSON; empty for none.
        num_gpus: GPUs that this process sees.

    Raises:
        ValueError: for a TF_CONFIG that is no JSON, or gives this process a task that does not train.

    Example:
        >>> choose_strategy_kind("", 0), choose_strategy_kind("", 4)
        ('single', 'mirrored')
    """
    try:
        config = json.loads(tf_config or "{}")
    except ValueError as error:
        raise ValueError(
            f"TF_CONFIG is not JSON ({error}); received {tf_config!r}. Unset it for one process."
        ) from error
    cluster = config.get("cluster", {})
    kind = config.get("task", {}).get("type", "worker")
    if cluster and kind not in ("chief", "worker"):
        raise ValueError(
            f"TF_CONFIG gives this process a task of type {kind!r}; every process of a search or training is a chief or a "
            "worker. Leave pools for parameter servers and evaluators out."
        )
    if sum(len(cluster.get(name, ())) for name in ("chief", "worker")) > 1:
        return "workers"
    return "mirrored" if num_gpus > 1 else "single"


def start_devices() -> tf.distribute.Strategy | None:
    """Prepares the GPUs, and makes the strategy for what this process has; None where one device computes.

    To be called before anything else of TensorFlow in a process. GPUs get memory as they need it. Without a GPU, TensorFlow's
    operations are made deterministic; with one they are not, because its scatters would then copy whole tables to the CPU.

    Raises:
        ValueError: see `choose_strategy_kind`.
    """
    gpus = tf.config.list_physical_devices("GPU")
    kind = choose_strategy_kind(os.environ.get("TF_CONFIG", ""), len(gpus))
    for gpu in gpus:
        try:
            tf.config.experimental.set_memory_growth(gpu, True)
        except RuntimeError:  # TensorFlow has started
            logger.warning("%s: its memory was taken at once; TensorFlow was used before the search", gpu.name)
    if not gpus:
        tf.config.experimental.enable_op_determinism()
    strategy = None
    if kind == "workers":
        strategy = tf.distribute.MultiWorkerMirroredStrategy()
    elif kind == "mirrored":
        strategy = tf.distribute.MirroredStrategy()
    logger.info("devices: %s, %d GPUs, %s", *_described(kind, strategy, len(gpus)))
    return strategy


def _described(kind: str, strategy: tf.distribute.Strategy | None, num_gpus: int) -> tuple[str, int, str]:
    replicas = 1 if strategy is None else strategy.num_replicas_in_sync
    return kind, num_gpus, f"{replicas} replicas"


def scope_of(strategy: tf.distribute.Strategy | None) -> contextlib.AbstractContextManager:
    """The scope to search or train in."""
    return contextlib.nullcontext() if strategy is None else strategy.scope()


def fit_on_gpu(table_bytes: Sequence[int], max_bytes: int) -> list[bool]:
    """Whether each table goes to the GPU: the smallest first, as many as fit, so that most lookups are fast.

    Example:
        >>> fit_on_gpu([50, 10, 70, 20], 90)
        [True, True, False, True]
    """
    fits, used = [False] * len(table_bytes), 0
    for index in sorted(range(len(table_bytes)), key=lambda i: table_bytes[i]):
        used += table_bytes[index]
        fits[index] = used <= max_bytes
    return fits


def place_tables(num_parameters: Mapping[str, int], max_gpu_table_bytes: int | None = None) -> list[str | None]:
    """A device for each table, or None to leave it where TensorFlow puts it: on the GPU, where there is one.

    A table that goes to the CPU is named in a warning. Without a GPU nothing is placed.

    Args:
        num_parameters: name of each table -> its parameters.
        max_gpu_table_bytes: what tables and their optimizer slots may take of a GPU. None: 0.7 of its memory.
    """
    nowhere: list[str | None] = [None] * len(num_parameters)
    if max_gpu_table_bytes is None:
        memory = _gpu_memory_bytes()
        if memory is None:
            return nowhere
        max_gpu_table_bytes = int(GPU_TABLE_SHARE * memory)
    elif not tf.config.list_physical_devices("GPU"):
        return nowhere
    return _place(num_parameters, max_gpu_table_bytes, tf.distribute.get_strategy().num_replicas_in_sync)


def _place(num_parameters: Mapping[str, int], max_bytes: int, num_replicas: int) -> list[str | None]:
    table_bytes = {name: BYTES_PER_TRAINED_PARAMETER * number for name, number in num_parameters.items()}
    fits = fit_on_gpu(list(table_bytes.values()), max_bytes)
    if num_replicas > 1 and not all(fits):
        logger.warning(
            "The tables take %.1f GB of each GPU, more than max_gpu_table_bytes=%d: several GPUs hold the same tables. "
            "Lower the budget, or search and train on one GPU, which can leave tables to the CPU.",
            *(sum(table_bytes.values()) / 1e9, max_bytes),
        )
        return [None] * len(table_bytes)
    for (name, size), is_on_gpu in zip(table_bytes.items(), fits, strict=True):
        if not is_on_gpu:
            logger.warning(
                "The table of %r, about %.2f GB with optimizer slots, goes to the CPU's memory: all tables together exceed "
                "max_gpu_table_bytes=%d. Lower the budget, raise the limit, or expect slower steps.",
                *(name, size / 1e9, max_bytes),
            )
    return [None if is_on_gpu else CPU for is_on_gpu in fits]


def _gpu_memory_bytes() -> int | None:
    """Memory that TensorFlow may take of the first GPU; None without a GPU."""
    if not tf.config.list_physical_devices("GPU"):
        return None
    limits = [device.memory_limit for device in device_lib.list_local_devices() if device.device_type == "GPU"]
    return min(limits) if limits else None
