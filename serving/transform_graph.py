"""The part of a TensorFlow Transform graph that a model needs: other columns and their vocabularies stay out."""

import os
from collections.abc import Mapping, Sequence

import tensorflow as tf


class TransformGraph(tf.Module):
    """Computes some features of a Transform graph: {column: Tensor or SparseTensor} -> {feature: Tensor}.

    The SavedModel's function is cut down to the operations that the features depend on, and only the lookup tables and
    vocabulary files that are left are tracked, so that an export holds no others.

    Args:
        directory: a SavedModel that TensorFlow Transform wrote (`tft_output.transform_savedmodel_dir`).
        feature_names: which of its outputs to compute.

    Attributes:
        columns: the raw columns that the features depend on, in alphabetical order.

    Raises:
        ValueError: if the SavedModel is no Transform graph of TensorFlow 2, or gives no such feature.
    """

    def __init__(self, directory: str | os.PathLike[str], feature_names: Sequence[str]):
        super().__init__()
        loaded = tf.saved_model.load(os.fspath(directory))
        function = getattr(loaded, "transform_fn", None)
        if function is None:
            raise ValueError(f"{directory} has no transform_fn: it is no Transform graph that TensorFlow 2 wrote.")
        graph = function.graph
        outputs = tf.nest.pack_sequence_as(graph.structured_outputs, graph.outputs, expand_composites=True)
        if unknown := sorted(set(feature_names) - set(outputs)):
            raise ValueError(f"The transform gives no feature {unknown}; it gives {sorted(outputs)}.")
        self._fetches = {name: outputs[name].name for name in feature_names}
        self._graph_def = _extract(graph.as_graph_def(), [outputs[name].op.name for name in feature_names])
        kept = {node.name for node in self._graph_def.node}
        num_inputs = len(graph.inputs) - len(function.captured_inputs)
        (specs,), _ = function.structured_input_signature
        inputs = tf.nest.pack_sequence_as(specs, graph.inputs[:num_inputs], expand_composites=True)
        parts = {column: tf.nest.flatten(x, expand_composites=True) for column, x in inputs.items()}
        # {column: the graph's name, or None where it is not read, of each part, e.g. of indices, values and dense_shape}
        self._inputs = {
            column: [x.name if x.op.name in kept else None for x in tensors]
            for column, tensors in sorted(parts.items())
            if any(x.op.name in kept for x in tensors)
        }
        self._captures = {
            inner.name: outer
            for inner, outer in zip(graph.inputs[num_inputs:], function.captured_inputs, strict=True)
            if inner.op.name in kept
        }
        self.columns = tuple(self._inputs)
        handles = {id(outer) for outer in self._captures.values()}
        objects = tf.train.TrackableView(loaded).descendants()
        self.tables = [x for x in objects if id(getattr(x, "resource_handle", None)) in handles]

    def __call__(self, raw: Mapping[str, tf.Tensor | tf.SparseTensor]) -> dict[str, tf.Tensor]:
        graph = tf.compat.v1.get_default_graph()
        input_map = {name: graph.capture(outer) for name, outer in self._captures.items()}
        for column, names in self._inputs.items():
            tensors = tf.nest.flatten(raw[column], expand_composites=True)
            input_map |= {name: x for name, x in zip(names, tensors, strict=True) if name is not None}
        outputs = tf.graph_util.import_graph_def(
            self._graph_def, input_map=input_map, return_elements=list(self._fetches.values()), name="transform"
        )
        return dict(zip(self._fetches, outputs, strict=True))


def _extract(graph_def: tf.compat.v1.GraphDef, names: Sequence[str]) -> tf.compat.v1.GraphDef:
    """The nodes that the nodes of these names get data from, in their order, and all functions.

    Control dependencies are left out: tracing makes every output wait for every lookup, whatever it depends on.
    """
    nodes = {node.name: node for node in graph_def.node}
    waiting, kept = list(names), set()
    while waiting:
        name = waiting.pop()
        if name in kept:
            continue
        kept.add(name)
        waiting += [source.split(":")[0] for source in nodes[name].input if not source.startswith("^")]
    extracted = tf.compat.v1.GraphDef(versions=graph_def.versions, library=graph_def.library)
    for node in graph_def.node:
        if node.name in kept:
            copy = extracted.node.add()
            copy.CopyFrom(node)
            copy.ClearField("input")
            copy.input.extend(source for source in node.input if not source.startswith("^"))
    return extracted
