"""What Pusher runs: checks the blessings, then publishes a version with warm-up records."""

import os
from typing import Any

import tensorflow as tf
from absl import logging
from tfx import types
from tfx.components.pusher import executor as tfx_executor
from tfx.types import artifact_utils
from tfx.utils import io_utils, path_utils

from serving.versions import publish_version
from serving.warmup import replay_warmup, write_warmup
from serving.warmup_requests import BATCH_SIZES, make_warmup_logs, rows_of_examples

_SPLIT = "eval"


class Executor(tfx_executor.Executor):
    """Publishes a model; TFX's own executor checks the blessings and marks the output."""

    def Do(  # noqa: N802 (TFX's name)
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Publishes `model` below `root` if it is blessed; marks `pushed_model` in either case."""
        self._log_startup(input_dict, output_dict, exec_properties)
        pushed = artifact_utils.get_single_instance(output_dict["pushed_model"])
        if not self.CheckBlessing(input_dict):
            self._MarkNotPushed(pushed)
            return
        model = artifact_utils.get_single_instance(input_dict["model"])
        num_records = exec_properties["num_warmup_records"]

        def add_warmup(staged: str) -> None:
            rows = _read_rows(input_dict["examples"], num_records * max(BATCH_SIZES))
            if not rows:
                logging.warning("The split %s has no row: no warm-up records.", _SPLIT)
                return
            logs = make_warmup_logs(staged, rows, num_records=num_records)
            replay_warmup(staged, logs)
            write_warmup(staged, logs)

        destination = publish_version(
            path_utils.serving_model_path(model.uri),
            os.path.join(exec_properties["root"], "serving_model"),
            keep=exec_properties["keep_versions"] or None,
            prepare=add_warmup if num_records else None,
        )
        io_utils.copy_dir(destination, pushed.uri)
        version = os.path.basename(destination)
        self._MarkPushed(pushed, pushed_destination=destination, pushed_version=version)
        logging.info("Pushed version %s to %s.", version, destination)


def _read_rows(examples: list[types.Artifact], max_rows: int) -> list[dict[str, Any]]:
    (directory,) = artifact_utils.get_split_uris(examples, _SPLIT)
    files = sorted(tf.io.gfile.glob(os.path.join(directory, "*")))
    records = tf.data.TFRecordDataset(files, compression_type="GZIP").take(max_rows)
    return list(rows_of_examples(record.numpy() for record in records))
