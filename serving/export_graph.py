"""A smaller graph in a SavedModel: small weights as constants, and a signature without function calls.

TensorFlow optimises the graph when it restores, initialises and first runs a model: this is most of what a server waits
for, and it takes as long as the graph has nodes, calls and functions (docs/decisions/0007).
"""

import os
from collections.abc import Container, Iterable

import keras
import numpy as np
import tensorflow as tf
from tensorflow.core.framework import function_pb2, node_def_pb2
from tensorflow.core.protobuf import meta_graph_pb2, saved_model_pb2

# Constants are copied while the graph is optimised, and count towards the 2 GB that a saved_model.pb may have.
MAX_CONSTANT_BYTES = 2**18
_CALLS = ("PartitionedCall", "StatefulPartitionedCall")
_INITIALISATION = "__saved_model_init_op"


def small_weights(model: keras.Model) -> list[tuple[keras.Variable, np.ndarray]]:
    """The weights of `model` that take at most 256 KB each, with their values.

    A function that calls the model inside `keras.StatelessScope(small_weights(model))` is traced with them as constants.
    Call this outside: in a function that is traced, weights have no values.
    """
    values = [(variable, variable.numpy()) for variable in model.variables]
    return [(variable, value) for variable, value in values if value.nbytes <= MAX_CONSTANT_BYTES]


def flatten_graph(directory: str, signature: str = "serving_default", aliases: Iterable[str] = ()) -> None:
    """Rewrites `<directory>/saved_model.pb`, which nothing may be reading yet, for Session loaders such as TF Serving.

    The functions of one signature and those that restore variables are written out where they are called. The inputs of
    the signature become outputs of one node. Signatures that compute the same become names of the same nodes. What only
    saves again is removed, and so are an initialisation that does nothing and nodes that nothing needs. `tf.saved_model.load`,
    which reads the functions, is not affected. The fingerprint is removed; it is optional.

    Args:
        directory: a SavedModel, as `keras.export.ExportArchive` writes it, on a local or remote file system.
        signature: the one that has to be fast.
        aliases: other signatures with the same inputs and outputs, by the same function.
    """
    path = os.path.join(directory, "saved_model.pb")
    with tf.io.gfile.GFile(path, "rb") as file:
        saved_model = saved_model_pb2.SavedModel.FromString(file.read())
    (meta_graph,) = saved_model.meta_graphs
    signatures, nodes = meta_graph.signature_def, meta_graph.graph_def.node
    replaced = {meta_graph.saver_def.save_tensor_name.partition(":")[0]}
    for name in aliases:
        inputs = {tensor.name.partition(":")[0] for tensor in signatures[name].inputs.values()}
        defaults = {default for node in nodes if node.name in inputs for default in node.input}
        outputs = {tensor.name.partition(":")[0] for tensor in signatures[name].outputs.values()}
        replaced |= inputs | defaults | outputs

    inliner = _Inliner(meta_graph)
    for tensor in signatures[signature].outputs.values():
        name, _, index = tensor.name.partition(":")
        reference = inliner.outputs_of(name)[int(index)]
        tensor.name = reference if ":" in reference else f"{reference}:0"
        replaced.add(name)
    restore = meta_graph.saver_def.restore_op_name
    meta_graph.saver_def.restore_op_name = inliner.outputs_of(restore)[0].partition(":")[0]
    replaced.add(restore)

    if _INITIALISATION in signatures:
        [tensor] = signatures[_INITIALISATION].outputs.values()
        [node] = [node for node in nodes if node.name == tensor.name.partition(":")[0]]
        if node.op == "NoOp" and not node.input:
            replaced.add(node.name)
            del signatures[_INITIALISATION]
            del meta_graph.collection_def["saved_model_main_op"]
    kept = [*(node for node in nodes if node.name not in replaced), *inliner.nodes]
    if len(signatures[signature].inputs) > 1:
        kept = _join_inputs(kept, signatures[signature])
    for name in aliases:
        signatures[name].CopyFrom(signatures[signature])
    del nodes[:]
    nodes.extend(_needed(kept, meta_graph))

    with tf.io.gfile.GFile(path, "wb") as file:
        file.write(saved_model.SerializeToString(deterministic=True))
    fingerprint = os.path.join(directory, "fingerprint.pb")
    if tf.io.gfile.exists(fingerprint):
        tf.io.gfile.remove(fingerprint)


def _join_inputs(
    nodes: list[node_def_pb2.NodeDef], signature: meta_graph_pb2.SignatureDef
) -> list[node_def_pb2.NodeDef]:
    """`nodes`, with one IdentityN in the place of the signature's placeholders: each of its outputs is fed on its own.

    What is not fed still has its default, or is an error: IdentityN reads it from a placeholder, one for all that are equal.
    """
    by_name = {node.name: node for node in nodes}
    joined = _unused_name("inputs", by_name)  # short: a Session compares the names of all feeds in every call
    identity = node_def_pb2.NodeDef(name=joined, op="IdentityN")
    sources: dict[tuple, node_def_pb2.NodeDef] = {}
    references: dict[str, str] = {}
    dropped: set[str] = set()
    for index, (_, tensor) in enumerate(sorted(signature.inputs.items())):
        placeholder = by_name[tensor.name.partition(":")[0]]
        defaults = [by_name[name] for name in placeholder.input]
        attributes = [placeholder.attr["dtype"], placeholder.attr["shape"], *(node.attr["value"] for node in defaults)]
        key = (placeholder.op, *(value.SerializeToString(deterministic=True) for value in attributes))
        if key not in sources:
            source = sources[key] = node_def_pb2.NodeDef(op=placeholder.op, input=placeholder.input)
            source.name = _unused_name(f"missing_input_{len(sources)}", by_name)
            source.attr["dtype"].CopyFrom(placeholder.attr["dtype"])
            source.attr["shape"].CopyFrom(placeholder.attr["shape"])
        else:
            dropped.update(node.name for node in defaults)
        dropped.add(placeholder.name)
        identity.input.append(sources[key].name)
        identity.attr["T"].list.type.append(placeholder.attr["dtype"].type)
        references[placeholder.name] = f"{joined}:{index}" if index else joined
        tensor.name = f"{joined}:{index}"
    controls = {f"^{name}" for name in references}  # nothing has to wait for what is fed
    kept = [node for node in nodes if node.name not in dropped]
    for node in kept:
        inputs = [reference.removesuffix(":0") for reference in node.input if reference not in controls]
        node.input[:] = [references.get(reference, reference) for reference in inputs]
    return [*sources.values(), identity, *kept]


def _needed(nodes: list[node_def_pb2.NodeDef], meta_graph: meta_graph_pb2.MetaGraphDef) -> list[node_def_pb2.NodeDef]:
    """The nodes that a loader of `meta_graph` names, and what they read: weights are read and copied in vain, too."""
    saver = meta_graph.saver_def
    names = [saver.restore_op_name, saver.filename_tensor_name]
    names += [asset.tensor_info.name for asset in meta_graph.asset_file_def]
    names += [node.constant.operation for node in meta_graph.object_graph_def.nodes]
    names += [name for collection in meta_graph.collection_def.values() for name in collection.node_list.value]
    for signature in meta_graph.signature_def.values():
        names += [tensor.name for tensor in (*signature.inputs.values(), *signature.outputs.values())]
    by_name = {node.name: node for node in nodes}
    needed: set[str] = set()
    while names:
        name = names.pop().removeprefix("^").partition(":")[0]
        if name and name not in needed:
            needed.add(name)
            names += by_name[name].input
    return [node for node in nodes if node.name in needed]


def _unused_name(name: str, names: Container[str]) -> str:
    while name in names:
        name += "_"
    return name


class _Inliner:
    """Writes the bodies of functions as nodes of a graph, with names below that of the call."""

    def __init__(self, meta_graph: meta_graph_pb2.MetaGraphDef):
        graph = meta_graph.graph_def
        self._calls = {node.name: node for node in graph.node if node.op in _CALLS}
        self._bodies: dict[str, _Body] = {}
        self.functions = {function.signature.name: function for function in graph.library.function}
        self.operations = {operation.name: operation for operation in meta_graph.meta_info_def.stripped_op_list.op}
        self.nodes: list[node_def_pb2.NodeDef] = []

    def outputs_of(self, call: str) -> list[str]:
        """What a call in the graph itself gives, as inputs of nodes; the nodes that compute it are added."""
        if call not in self._bodies:
            node = self._calls[call]
            self._bodies[call] = _Body(self, call, node.attr["f"].func.name, list(node.input))
        return self._bodies[call].outputs


class _Body:
    """The body of a function, written once for one call.

    Attributes:
        outputs: what the function returns, as inputs of nodes.
        controls: what has to have run for the call to be done.
    """

    def __init__(self, inliner: _Inliner, scope: str, function: str, inputs: list[str]):
        self._inliner = inliner
        self._scope = scope
        definition: function_pb2.FunctionDef = inliner.functions[function]
        self._arguments = dict(zip((arg.name for arg in definition.signature.input_arg), inputs, strict=True))
        self._nodes = {node.name: node for node in definition.node_def}
        self._bodies: dict[str, _Body] = {}
        for node in definition.node_def:
            if not self._is_inlined(node):
                inliner.nodes.append(self._copy(node))
            else:
                self._body_of(node.name)
        self.outputs = [self._data(definition.ret[arg.name]) for arg in definition.signature.output_arg]
        done = [control for name in definition.control_ret.values() for control in self._control(name)]
        self.controls = done or [f"^{reference.partition(':')[0]}" for reference in self.outputs]

    def _is_inlined(self, node: node_def_pb2.NodeDef) -> bool:
        return node.op in _CALLS and not any(reference.startswith("^") for reference in node.input)

    def _body_of(self, call: str) -> "_Body":
        if call not in self._bodies:
            node = self._nodes[call]
            inputs = [self._data(reference) for reference in node.input]
            self._bodies[call] = _Body(self._inliner, f"{self._scope}/{call}", node.attr["f"].func.name, inputs)
        return self._bodies[call]

    def _copy(self, node: node_def_pb2.NodeDef) -> node_def_pb2.NodeDef:
        copy = node_def_pb2.NodeDef()
        copy.CopyFrom(node)
        copy.name = f"{self._scope}/{node.name}"
        del copy.input[:]
        copy.input.extend(self._data(reference) for reference in node.input if not reference.startswith("^"))
        controls = [self._control(reference[1:]) for reference in node.input if reference.startswith("^")]
        copy.input.extend(dict.fromkeys(control for several in controls for control in several))
        copy.attr.pop("_class", None)  # names of nodes in the function, to be placed with
        return copy

    def _data(self, reference: str) -> str:
        """The input of a node of the graph, for one in the function: an argument, or `node:output name:index`."""
        if reference in self._arguments:
            return self._arguments[reference]
        name, output, index = reference.split(":")
        position = self._position(self._nodes[name], output) + int(index)
        if self._is_inlined(self._nodes[name]):
            return self._body_of(name).outputs[position]
        return f"{self._scope}/{name}:{position}" if position else f"{self._scope}/{name}"

    def _control(self, name: str) -> list[str]:
        if name in self._nodes and self._is_inlined(self._nodes[name]):
            return self._body_of(name).controls
        return [f"^{self._arguments[name].partition(':')[0]}" if name in self._arguments else f"^{self._scope}/{name}"]

    def _position(self, node: node_def_pb2.NodeDef, output: str) -> int:
        """The index of the first tensor of a named output among all that the node gives."""
        position = 0
        for arg in self._inliner.operations[node.op].output_arg:
            if arg.name == output:
                return position
            if arg.type_list_attr:
                position += len(node.attr[arg.type_list_attr].list.type)
            else:
                position += node.attr[arg.number_attr].i if arg.number_attr else 1
        raise ValueError(f"Node {node.name!r}, a {node.op}, has no output {output!r}.")
