"""A SavedModel in TensorFlow's C++ loader and Session, by its C API: what TF Serving runs, with no Python in what is timed.

TensorFlow's Python package is found, not imported: a process that only times a model starts in a fraction of a second.
"""

import ctypes
import importlib.util
import os
from collections.abc import Sequence

import numpy as np

_INT64 = 9  # TF_INT64


class _Output(ctypes.Structure):
    _fields_ = (("operation", ctypes.c_void_p), ("index", ctypes.c_int))


def _load_library() -> ctypes.CDLL:
    package = importlib.util.find_spec("tensorflow").submodule_search_locations[0]
    library = ctypes.CDLL(os.path.join(package, "libtensorflow_cc.so.2"))
    for name in ("Status", "SessionOptions", "Graph"):
        getattr(library, f"TF_New{name}").restype = ctypes.c_void_p
    for name in ("LoadSessionFromSavedModel", "GraphOperationByName", "AllocateTensor", "TensorData"):
        getattr(library, f"TF_{name}").restype = ctypes.c_void_p
    library.TF_Message.restype = ctypes.c_char_p
    return library


class NativeSession:
    """Loads `directory` to feed `inputs` and fetch `output`, one tensor of floats.

    Raises:
        RuntimeError: if TensorFlow refuses it; with TensorFlow's message.
    """

    def __init__(self, directory: str, inputs: Sequence[str], output: str):
        self._library = _load_library()
        self._status = ctypes.c_void_p(self._library.TF_NewStatus())
        self._graph = ctypes.c_void_p(self._library.TF_NewGraph())
        options = ctypes.c_void_p(self._library.TF_NewSessionOptions())
        tags = (ctypes.c_char_p * 1)(b"serve")
        self._session = ctypes.c_void_p(
            self._library.TF_LoadSessionFromSavedModel(
                options, None, directory.encode(), tags, 1, self._graph, None, self._status
            )
        )
        self._check()
        self._inputs = (_Output * len(inputs))(*[self._find(name) for name in inputs])
        self._output = (_Output * 1)(self._find(output))

    def make_feeds(self, columns: Sequence[np.ndarray]) -> ctypes.Array:
        """Tensors of int64 [B] columns, in the order of the inputs; they stay for the life of the process."""
        return (ctypes.c_void_p * len(columns))(*[self._make_tensor(column) for column in columns])

    def run(self, feeds: ctypes.Array) -> float:
        """One call; gives its first value."""
        results = (ctypes.c_void_p * 1)()
        self._library.TF_SessionRun(
            *(
                self._session,
                None,
                self._inputs,
                feeds,
                len(feeds),
                self._output,
                results,
                1,
                None,
                0,
                None,
                self._status,
            )
        )
        self._check()
        tensor = ctypes.c_void_p(results[0])
        value = ctypes.cast(self._library.TF_TensorData(tensor), ctypes.POINTER(ctypes.c_float))[0]
        self._library.TF_DeleteTensor(tensor)
        return value

    def _find(self, tensor: str) -> _Output:
        operation, _, index = tensor.partition(":")
        return _Output(self._library.TF_GraphOperationByName(self._graph, operation.encode()), int(index))

    def _make_tensor(self, column: np.ndarray) -> int:
        column = np.ascontiguousarray(column, np.int64)
        shape = (ctypes.c_int64 * 1)(len(column))
        tensor = self._library.TF_AllocateTensor(_INT64, shape, 1, ctypes.c_size_t(column.nbytes))
        ctypes.memmove(self._library.TF_TensorData(ctypes.c_void_p(tensor)), column.ctypes.data, column.nbytes)
        return tensor

    def _check(self) -> None:
        if self._library.TF_GetCode(self._status):
            raise RuntimeError(self._library.TF_Message(self._status).decode())
