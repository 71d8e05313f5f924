"""A SavedModel in a Session: the way TF Serving's C++ loader runs it, which `tf.saved_model.load` does not prove."""

import dataclasses
import logging
import os
import re
from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf

_LOG = logging.getLogger(__name__)

# How lines of TensorFlow's messages begin that do not say what is wrong.
_HEADINGS = ("Graph execution error:", "Detected at node '", "Node: '")

_CURE = (
    "Export it with serving.export.export_saved_model, or with keras.export.ExportArchive tracking the model AND the"
    " Transform layer; tf.saved_model.save of a Keras 3 model writes files that only Python can run."
)


class SavedModelError(Exception):
    """A SavedModel is not there or cannot be used; the message says why and what to do."""


class SavedModelNotFoundError(SavedModelError, FileNotFoundError):
    """There is no SavedModel at a path."""


class SignatureError(SavedModelError):
    """A signature is not there or fails to run."""


@dataclasses.dataclass(frozen=True)
class Signature:
    """A signature: its inputs, the names of its graph's tensors by input and output, and values of absent inputs."""

    name: str
    method_name: str
    inputs: dict[str, tf.TensorSpec]
    input_tensors: dict[str, str]
    output_tensors: dict[str, str]
    defaults: dict[str, np.ndarray]


def find_saved_model(path: str | os.PathLike[str]) -> str:
    """The directory that holds saved_model.pb: `path`, or its newest (highest) version if it holds numbered ones.

    Raises:
        SavedModelNotFoundError: if there is neither.
    """
    path = os.fspath(path)
    if not tf.io.gfile.isdir(path):
        raise SavedModelNotFoundError(f"No such directory: {path}. Name the directory that holds saved_model.pb.")
    if _has_saved_model(path):
        return path
    names = [name.rstrip("/") for name in tf.io.gfile.listdir(path)]
    versions = [name for name in names if name.isdecimal() and _has_saved_model(os.path.join(path, name))]
    if versions:
        newest = os.path.join(path, max(versions, key=int))
        _LOG.info("%s holds versions %s; using %s", path, sorted(versions, key=int), newest)
        return newest
    inside = [name for name in sorted(names) if _has_saved_model(os.path.join(path, name))]
    hint = f"Did you mean {os.path.join(path, inside[0])}?" if inside else f"It holds {sorted(names)[:8] or 'nothing'}."
    raise SavedModelNotFoundError(f"No saved_model.pb and no version of one in {path}. {hint}")


def _has_saved_model(path: str) -> bool:
    return tf.io.gfile.exists(os.path.join(path, "saved_model.pb"))


class SessionModel:
    """A loaded SavedModel; use it as a context manager. Runs on the CPU, so that a check takes no accelerator's memory.

    Args:
        directory: the directory that holds saved_model.pb.

    Raises:
        SavedModelError: if the loader refuses it.
    """

    def __init__(self, directory: str):
        self._directory = directory
        config = tf.compat.v1.ConfigProto(device_count={"GPU": 0})
        self._session = tf.compat.v1.Session(graph=tf.Graph(), config=config)
        try:
            with self._session.graph.as_default():
                self.meta_graph = tf.compat.v1.saved_model.load(self._session, ["serve"], directory)
        except (tf.errors.OpError, RuntimeError, OSError, ValueError) as error:
            self._session.close()
            raise SavedModelError(f"{directory} cannot be loaded in a Session: {describe_error(error)}") from error
        self.signatures = {
            name: Signature(
                name=name,
                method_name=definition.method_name,
                inputs={
                    key: tf.TensorSpec(tf.TensorShape(info.tensor_shape), tf.as_dtype(info.dtype))
                    for key, info in sorted(definition.inputs.items())
                },
                input_tensors={key: info.name for key, info in definition.inputs.items()},
                output_tensors={key: info.name for key, info in definition.outputs.items()},
                defaults={key: tf.make_ndarray(proto) for key, proto in definition.defaults.items()},
            )
            for name, definition in sorted(self.meta_graph.signature_def.items())
            if not name.startswith("__")  # the loader's own, such as __saved_model_init_op
        }

    def __enter__(self) -> "SessionModel":
        return self

    def __exit__(self, *exc_info) -> None:
        self._session.close()

    def find_signature(self, name: str) -> Signature:
        """The signature of a name; raises SignatureError naming those there are."""
        if name not in self.signatures:
            raise SignatureError(f"{self._directory} has no signature {name!r}; it has {sorted(self.signatures)}.")
        return self.signatures[name]

    def fetch(self, feeds: Mapping[str, np.ndarray], tensors: Sequence[str]) -> list[np.ndarray]:
        """Runs tensors of the graph by their names; TensorFlow's errors are passed on as they are."""
        return self._session.run(list(tensors), dict(feeds))

    def run(self, name: str, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Runs a signature on {input name: [B, ...]}; absent inputs get their defaults, as TF Serving feeds them.

        Returns:
            {output name: [B, ...]}.

        Raises:
            SignatureError: if it fails; the message names it and, where known, the cure.
        """
        signature = self.find_signature(name)
        feeds = {signature.input_tensors[key]: value for key, value in (signature.defaults | dict(inputs)).items()}
        try:
            outputs = self.fetch(feeds, list(signature.output_tensors.values()))
        except tf.errors.OpError as error:
            # These two codes are what a variable or table that was saved without its value gives.
            is_untracked = isinstance(error, tf.errors.FailedPreconditionError | tf.errors.NotFoundError)
            cure = f" {_CURE}" if is_untracked else ""
            raise SignatureError(f"Signature {name!r} fails in a Session: {describe_error(error)}{cure}") from error
        return dict(zip(signature.output_tensors, outputs, strict=True))


def describe_error(error: Exception | str) -> str:
    """The line of an error, or of its text, that says what is wrong; TensorFlow's begin with headings and node names."""
    message = error.message if isinstance(error, tf.errors.OpError) else str(error)
    lines = [re.sub(r"\{\{.*?\}\}", "", line).strip() for line in message.splitlines()]
    told = [line for line in lines if line and not line.startswith(_HEADINGS)]
    return told[0] if told else type(error).__name__
