"""SummaryWriter: a search's records as TensorBoard summaries."""

import importlib.util
import logging
import os
from typing import Any

import tensorflow as tf

logger = logging.getLogger(__name__)

# Written last: a check that has it was written whole. Every method's records have it.
_LAST_TAG = "parameters"


class SummaryWriter:
    """Writes records of a search (`SearchResult.trajectory`) for TensorBoard, each check once.

    Scalars `dimensions/<field>`, `parameters` and `table_bytes`, where they are known `loss`, `validation_loss`,
    `validation_auc` and `total_dimensions`, and histograms `gains/<field>` (dimgrow: held-out gain of each dimension, in
    nats) or `gates/<field>` (dimgrow_paper and supernets); the step is the training step.

    Args:
        log_dir: directory of the event files, may be remote. Steps that stand there already are not written again, so
            that an interrupted search goes on with the same directory; a new search needs one of its own.

    Raises:
        ImportError: without the extra `tensorboard`.
    """

    def __init__(self, log_dir: str):
        if importlib.util.find_spec("tensorboard") is None:
            raise ImportError(
                "Summaries need tensorboard, which is not installed. "
                "Install the extra: pip install keras-dimgrow[tensorboard]"
            )
        self.log_dir = log_dir
        self._writer: tf.summary.SummaryWriter | None = None
        self._steps = _steps_in(log_dir)
        if self._steps:
            logger.warning(
                "%s holds checks up to step %d; they are not written again. A new search needs a directory of its own.",
                *(log_dir, max(self._steps)),
            )

    def write(self, record: dict[str, Any]) -> None:
        """Writes one record, unless its step is there."""
        if record["step"] in self._steps:
            return
        self._steps.add(record["step"])
        if self._writer is None:
            self._writer = tf.summary.create_file_writer(self.log_dir)
        with self._writer.as_default(record["step"]):
            for key in ("loss", "validation_loss", "validation_auc", "total_dimensions", "table_bytes"):
                if record.get(key) is not None:
                    tf.summary.scalar(key, record[key])
            for field, dimension in record["dimensions"].items():
                tf.summary.scalar(f"dimensions/{field}", dimension)
            for key in ("gains", "gates"):
                for field, values in record.get(key, {}).items():
                    tf.summary.histogram(f"{key}/{field}", values)
            tf.summary.scalar(_LAST_TAG, record[_LAST_TAG])
        self._writer.flush()


def _steps_in(log_dir: str) -> set[int]:
    """The steps of the checks in the event files of `log_dir`."""
    steps = set()
    for path in tf.io.gfile.glob(os.path.join(log_dir, "events.out.tfevents.*")):
        try:
            for serialized in tf.data.TFRecordDataset(path).as_numpy_iterator():
                event = tf.compat.v1.Event.FromString(serialized)
                if any(value.tag == _LAST_TAG for value in event.summary.value):
                    steps.add(event.step)
        except tf.errors.DataLossError:
            logger.info("%s ends amid a record: its process was killed", path)
    return steps
