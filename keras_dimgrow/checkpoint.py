"""SearchCheckpoint: a search that was interrupted goes on where its last checkpoint was."""

import contextlib
import json
import logging
import os
import shutil
import signal
import tempfile
import zipfile

import keras
import numpy as np
import tensorflow as tf

from keras_dimgrow.callbacks import DimensionSearch
from keras_dimgrow.distributed import fit, from_chief, is_chief
from keras_dimgrow.evaluation import evaluate
from keras_dimgrow.interrupts import Termination, terminations_noted

logger = logging.getLogger(__name__)


class SearchCheckpoint(keras.callbacks.Callback):
    """Validates the model, and saves model, optimizer and trajectory, at the end of every epoch.

    A checkpoint is one file, renamed into place: every variable of model and optimizer (the states of random number
    generators included, which `save_weights` leaves out) and the trajectory. Of several workers the first one writes; all
    read, from the same directory.

    Args:
        growth: the search's DimensionSearch, whose trajectory is saved and gets the validation's results.
        validation_data: batches of (inputs, labels), or None.
        directory: where the checkpoint is kept, may be remote; None saves nothing.
    """

    def __init__(self, growth: DimensionSearch, validation_data: tf.data.Dataset | None, directory: str | None):
        super().__init__()
        self.growth = growth
        self.validation_data = validation_data
        self.directory = directory
        self._termination = Termination()

    @property
    def path(self) -> str:
        """The checkpoint's file."""
        return os.path.join(self.directory or "", "search.npz")

    def train(self, model: keras.Model, data: tf.data.Dataset, step: int, steps_per_epoch: int, num_steps: int) -> None:
        """Trains from `step`, where `restore` left the model, to `num_steps`, unless a callback ends it before.

        A process that is told to end (SIGTERM) saves itself after the step that it is at, and ends with exit status 143.

        Args:
            model: compiled.
            data: one pass over the batches of ({field: ids}, label [B]).
            step: steps trained so far.
            steps_per_epoch: between two checkpoints.
            num_steps: in all, a multiple of steps_per_epoch or rounded up to one.
        """
        with contextlib.ExitStack() as stack:
            if self.directory is not None:
                self._termination = stack.enter_context(terminations_noted())
            fit(
                model,
                data.repeat().skip(step),
                steps_per_epoch=steps_per_epoch,
                epochs=-(-num_steps // steps_per_epoch),
                initial_epoch=step // steps_per_epoch,
                # Saved amid an epoch: to its end first.
                first_epoch_steps=steps_per_epoch - step % steps_per_epoch,
                callbacks=[self.growth, self],
            )

    def restore(self, model: keras.Model) -> int:
        """Loads the checkpoint into `model` and the trajectory; returns its step, 0 if there is none.

        Raises:
            ValueError: if the checkpoint is one of another model, or not the one that the first of several workers reads.
        """
        step = self._restore(model)
        chiefs_step = int(from_chief([np.array(step)])[0])
        if step != chiefs_step:
            raise ValueError(
                f"checkpoint_directory={self.directory!r}: this worker read step {step} there, the first one {chiefs_step}. "
                "All workers must see the same files: name a directory in a shared file system or a bucket."
            )
        return step

    def _restore(self, model: keras.Model) -> int:
        if self.directory is None or not tf.io.gfile.exists(self.path):
            return 0
        # By way of a local file, one variable at a time: tables may be most of the memory there is.
        with tf.io.gfile.GFile(self.path, "rb") as file, tempfile.TemporaryFile() as local:
            shutil.copyfileobj(file, local)
            local.seek(0)
            saved = np.load(local, allow_pickle=False)
            variables = _state_of(model)
            if not self._fits(saved, variables):
                raise ValueError(
                    f"{self.path} is a checkpoint of another model than this search's. "
                    "Delete it, or name another directory."
                )
            for name, variable in variables.items():
                variable.assign(saved[name])
            search = json.loads(str(saved["search"]))
            self.growth.trajectory = search["trajectory"]
            self.growth.has_converged = search["has_converged"]
            if search["state"] is not None:
                self.growth.restore_state(search["state"])
            logger.info("search goes on from step %d, saved in %s", search["step"], self.path)
            return search["step"]

    def _fits(self, saved, variables: dict[str, keras.Variable]) -> bool:
        """Whether `saved` has the fields of this search and a value that fits each variable."""
        if sorted(saved.files) != sorted([*variables, "search"]):
            return False
        shapes_fit = all(v.value.shape.is_compatible_with(saved[name].shape) for name, v in variables.items())
        return shapes_fit and json.loads(str(saved["search"]))["fields"] == self._fields()

    def _fields(self) -> list:
        return [[field.name, field.vocabulary_size] for field in self.growth.layer.fields]

    # Not on_train_batch_end: overriding that makes Keras wait for every step's logs.
    def on_train_batch_begin(self, batch, logs=None):
        if self._termination.is_requested:
            self._save(self.growth.trajectory)
            step = int(self.model.optimizer.iterations.numpy())
            logger.warning("SIGTERM: the search ends at step %d; its checkpoint is %s", step, self.path)
            self._termination.is_requested = False  # else it would be raised once more
            raise SystemExit(128 + signal.SIGTERM)

    def on_epoch_end(self, epoch, logs=None):
        trajectory = self.growth.trajectory
        # A record that was validated before describes an earlier state of the model.
        if self.validation_data is not None and trajectory and trajectory[-1]["validation_loss"] is None:
            result = evaluate(self.model, self.validation_data)
            trajectory[-1] |= {"validation_auc": result.auc, "validation_loss": result.log_loss}
        if self.directory is not None:
            self._save(trajectory)

    def _save(self, trajectory) -> None:
        if not is_chief():
            return
        search = {
            "step": int(self.model.optimizer.iterations.numpy()),
            "trajectory": trajectory,
            "has_converged": self.growth.has_converged,
            "fields": self._fields(),
            "state": self.growth.state() if hasattr(self.growth, "state") else None,
        }
        tf.io.gfile.makedirs(self.directory)
        with tempfile.TemporaryFile() as local:
            with zipfile.ZipFile(local, "w") as archive:
                for name, variable in (*_state_of(self.model).items(), ("search", json.dumps(search))):
                    array = np.asarray(variable) if isinstance(variable, str) else variable.numpy()
                    with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                        np.lib.format.write_array(member, array, allow_pickle=False)
            local.seek(0)
            with tf.io.gfile.GFile(f"{self.path}.tmp", "wb") as file:
                shutil.copyfileobj(local, file)
        tf.io.gfile.rename(f"{self.path}.tmp", self.path, overwrite=True)


def _state_of(model: keras.Model) -> dict[str, keras.Variable]:
    """All variables of model and optimizer but the metrics', by a name that is unique and the same in every process."""
    metrics = {id(variable) for variable in model.metrics_variables}
    variables = [v for v in (*model.variables, *model.optimizer.variables) if id(v) not in metrics]
    return {f"{index:05d}": variable for index, variable in enumerate(variables)}
