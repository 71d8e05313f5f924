"""A SavedModel in TensorFlow's C++ loader, by its C API: the loader of TF Serving, without Python's import of the graph."""

import ctypes
import os

import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

_INT64 = 9  # TF_INT64


class _Output(ctypes.Structure):
    _fields_ = (("operation", ctypes.c_void_p), ("index", ctypes.c_int))


def _load_library() -> ctypes.CDLL:
    library = ctypes.CDLL(os.path.join(os.path.dirname(tf.__file__), "libtensorflow_cc.so.2"))
    for name in ("Status", "SessionOptions", "Graph"):
        getattr(library, f"TF_New{name}").restype = ctypes.c_void_p
    for name in ("LoadSessionFromSavedModel", "GraphOperationByName", "AllocateTensor", "TensorData"):
        getattr(library, f"TF_{name}").restype = ctypes.c_void_p
    library.TF_Message.restype = ctypes.c_char_p
    return library


def read_tensor_names(directory: str) -> tuple[list[str], str]:
    """The input tensors and the output tensor of serving_default."""
    with open(os.path.join(directory, "saved_model.pb"), "rb") as file:
        [graph] = saved_model_pb2.SavedModel.FromString(file.read()).meta_graphs
    signature = graph.signature_def["serving_default"]
    return [info.name for info in signature.inputs.values()], signature.outputs["outputs"].name


class NativeSession:
    """Loads `directory`; `answer` runs its serving_default on one row of zeros.

    Raises:
        RuntimeError: if TensorFlow refuses it; with TensorFlow's message.
    """

    def __init__(self, directory: str, inputs: list[str], output: str):
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
        self._inputs, self._output = inputs, output

    def answer(self) -> float:
        """The probability of a row whose ids are all 0."""
        count = len(self._inputs)
        inputs = (_Output * count)(*[self._find(name) for name in self._inputs])
        values = (ctypes.c_void_p * count)(*[self._zero() for _ in range(count)])
        outputs, results = (_Output * 1)(self._find(self._output)), (ctypes.c_void_p * 1)()
        self._library.TF_SessionRun(
            self._session, None, inputs, values, count, outputs, results, 1, None, 0, None, self._status
        )
        self._check()
        data = self._library.TF_TensorData(ctypes.c_void_p(results[0]))
        return ctypes.cast(data, ctypes.POINTER(ctypes.c_float))[0]

    def _find(self, tensor: str) -> _Output:
        operation, _, index = tensor.partition(":")
        return _Output(self._library.TF_GraphOperationByName(self._graph, operation.encode()), int(index))

    def _zero(self) -> int:
        tensor = self._library.TF_AllocateTensor(_INT64, (ctypes.c_int64 * 1)(1), 1, ctypes.c_size_t(8))
        ctypes.memset(self._library.TF_TensorData(ctypes.c_void_p(tensor)), 0, 8)
        return tensor

    def _check(self) -> None:
        if self._library.TF_GetCode(self._status):
            raise RuntimeError(self._library.TF_Message(self._status).decode())
