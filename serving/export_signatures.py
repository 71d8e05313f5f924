"""What Keras's export leaves out of a SavedModel's signatures: default values of inputs, and what a signature is for."""

import os
from collections.abc import Mapping

import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2


def complete_signatures(
    directory: str, defaults: Mapping[str, Mapping[str, tf.Tensor]], methods: Mapping[str, str]
) -> None:
    """Rewrites `<directory>/saved_model.pb`, which nothing may be reading yet.

    A default is written twice: as `SignatureDef.defaults`, which TF Serving feeds for an input that a request lacks, and
    in the graph, for programs that run it in a Session themselves. The fingerprint, which would no longer be the
    file's, is removed; it is optional.

    Args:
        directory: a SavedModel on a local or remote file system.
        defaults: {signature: {input: value of an absent one}}.
        methods: {signature: method name}, such as tf.saved_model.CLASSIFY_METHOD_NAME; Keras writes that of predict.
    """
    path = os.path.join(directory, "saved_model.pb")
    with tf.io.gfile.GFile(path, "rb") as file:
        saved_model = saved_model_pb2.SavedModel.FromString(file.read())
    (meta_graph,) = saved_model.meta_graphs
    nodes = {node.name: node for node in meta_graph.graph_def.node}
    for name, values in defaults.items():
        signature = meta_graph.signature_def[name]
        for key, value in values.items():
            proto = tf.make_tensor_proto(value)
            signature.defaults[key].CopyFrom(proto)
            placeholder = nodes[signature.inputs[key].name.removesuffix(":0")]
            if placeholder.input:
                continue  # of another signature, too, which has given it its default
            constant = meta_graph.graph_def.node.add(name=f"{placeholder.name}/default", op="Const")
            constant.attr["dtype"].type = proto.dtype
            constant.attr["value"].tensor.CopyFrom(proto)
            placeholder.op = "PlaceholderWithDefault"
            placeholder.input.append(constant.name)
    for name, method in methods.items():
        meta_graph.signature_def[name].method_name = method
    with tf.io.gfile.GFile(path, "wb") as file:
        file.write(saved_model.SerializeToString(deterministic=True))
    fingerprint = os.path.join(directory, "fingerprint.pb")
    if tf.io.gfile.exists(fingerprint):
        tf.io.gfile.remove(fingerprint)
