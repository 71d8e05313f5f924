"""flatten_graph and small_weights: the graph that a Session runs is smaller, and computes the same."""

import os

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from serving.export_graph import flatten_graph, small_weights
from serving.export_signatures import complete_signatures

X = np.array([3.0, 1.0, 3.0, 2.0], np.float32)
CALLS = {"PartitionedCall", "StatefulPartitionedCall"}


def save(directory: str, initial: float = 2.0) -> tuple[tf.Module, tf.types.experimental.ConcreteFunction]:
    """A module of functions in functions: outputs of lists and beside lists, state, controls, and arguments passed through."""
    module = tf.Module()
    module.scale = tf.Variable(initial)
    module.count = tf.Variable(0.0)

    @tf.function(autograph=False)
    def count(x):
        module.count.assign_add(tf.reduce_sum(x))
        return x

    @tf.function(autograph=False)
    def middle(x):
        values, _, counts = tf.unique_with_counts(x)
        first, *others = tf.split(values, [1, 1, 1])
        return {"same": x, "first": first, "last": others[-1] * module.scale, "counts": counts}

    @tf.function(input_signature=[tf.TensorSpec([4], tf.float32, name="x")], autograph=False)
    def outer(x):
        parts = middle(count(x))
        with tf.control_dependencies([tf.debugging.Assert(x[0] > 0, ["x is not positive", x])]):
            both = tf.concat([parts["first"], parts["last"]], 0)
        return {"both": both, "counts": parts["counts"], "same": parts["same"], "total": module.count.read_value()}

    function = outer.get_concrete_function()
    tf.saved_model.save(module, directory, signatures={"serving_default": function, "predict": function})
    return module, function


def read(directory: str):
    with open(os.path.join(directory, "saved_model.pb"), "rb") as file:
        [meta_graph] = saved_model_pb2.SavedModel.FromString(file.read()).meta_graphs
    return meta_graph


def run(directory: str, signature: str, *inputs: np.ndarray) -> list[dict[str, np.ndarray]]:
    with tf.compat.v1.Session(graph=tf.Graph()) as session:
        loaded = tf.compat.v1.saved_model.load(session, ["serve"], directory).signature_def[signature]
        outputs = {key: tensor.name for key, tensor in loaded.outputs.items()}
        return [session.run(outputs, {loaded.inputs["x"].name: x}) for x in inputs]


@pytest.fixture
def directory(tmp_path) -> str:
    save(str(tmp_path))
    flatten_graph(str(tmp_path), aliases=["predict"])
    return str(tmp_path)


@pytest.mark.parametrize("signature", ["serving_default", "predict"])
def test_a_flat_graph_gives_what_the_functions_give_and_keeps_their_state(directory, signature):
    first, second = run(directory, signature, X, X)

    np.testing.assert_array_equal(first["both"], [3, 4])
    np.testing.assert_array_equal(first["counts"], [2, 1, 1])
    np.testing.assert_array_equal(first["same"], X)
    assert (first["total"], second["total"]) == (9, 18)


def test_what_controls_an_output_still_fails(directory):
    with pytest.raises(tf.errors.InvalidArgumentError, match="x is not positive"):
        run(directory, "predict", -X)


def test_no_call_is_left_and_signatures_share_their_nodes(directory):
    meta_graph = read(directory)

    assert not CALLS & {node.op for node in meta_graph.graph_def.node}
    assert meta_graph.signature_def["predict"] == meta_graph.signature_def["serving_default"]
    assert [node.name for node in meta_graph.graph_def.node if node.op == "Placeholder"] == [
        "serving_default_x",
        "saver_filename",
    ]
    assert "__saved_model_init_op" not in meta_graph.signature_def


def test_no_node_is_left_that_nothing_reads(directory):
    meta_graph = read(directory)

    read_nodes = {name.removeprefix("^").partition(":")[0] for node in meta_graph.graph_def.node for name in node.input}
    named = {tensor.name.partition(":")[0] for tensor in meta_graph.signature_def["predict"].outputs.values()}
    assert {node.name for node in meta_graph.graph_def.node} - read_nodes == named | {
        meta_graph.saver_def.restore_op_name
    }


def test_the_loader_of_functions_still_finds_them(directory):
    outputs = tf.saved_model.load(directory).signatures["predict"](x=tf.constant(X))

    np.testing.assert_array_equal(outputs["both"], [3, 4])


def save_columns(directory: str) -> None:
    """Columns of two dtypes and two shapes, one of which controls what is computed of others."""
    specs = {
        "b": tf.TensorSpec([None], tf.int64, name="b"),
        "a": tf.TensorSpec([None], tf.int64, name="a"),
        "c": tf.TensorSpec([None], tf.float32, name="c"),
        "d": tf.TensorSpec([2], tf.float32, name="d"),
    }

    @tf.function(input_signature=[specs], autograph=False)
    def combine(x):
        with tf.control_dependencies([x["b"]]):
            return {"y": tf.cast(10 * x["a"] + x["b"], tf.float32) + x["c"] + x["d"], "c": x["c"]}

    module = tf.Module()
    tf.saved_model.save(module, directory, signatures={"serving_default": combine, "predict": combine})


def run_columns(directory: str, **columns) -> dict[str, np.ndarray]:
    with tf.compat.v1.Session(graph=tf.Graph()) as session:
        loaded = tf.compat.v1.saved_model.load(session, ["serve"], directory).signature_def["predict"]
        feeds = {loaded.inputs[name].name: value for name, value in columns.items()}
        return session.run({key: tensor.name for key, tensor in loaded.outputs.items()}, feeds)


COLUMNS = {"a": [1, 2], "b": [3, 4], "c": [0.5, 0.25], "d": [100.0, 200.0]}


def test_the_inputs_are_outputs_of_one_node_and_equal_placeholders_are_one(tmp_path):
    save_columns(str(tmp_path))
    flatten_graph(str(tmp_path), aliases=["predict"])

    outputs = run_columns(str(tmp_path), **COLUMNS)

    np.testing.assert_allclose(outputs["y"], [113.5, 224.25])
    np.testing.assert_allclose(outputs["c"], COLUMNS["c"])
    nodes = read(str(tmp_path)).graph_def.node
    assert [node.op for node in nodes if "input" in node.name] == ["Placeholder"] * 3 + ["IdentityN"]
    loaded = tf.saved_model.load(str(tmp_path)).signatures["serving_default"]
    types = {"a": tf.int64, "b": tf.int64, "c": tf.float32, "d": tf.float32}
    fed = {name: tf.constant(value, types[name]) for name, value in COLUMNS.items()}
    np.testing.assert_allclose(loaded(**fed)["y"], [113.5, 224.25])


def test_an_input_that_is_not_fed_is_still_an_error(tmp_path):
    save_columns(str(tmp_path))
    flatten_graph(str(tmp_path), aliases=["predict"])

    with pytest.raises(tf.errors.InvalidArgumentError, match="must feed a value for placeholder tensor 'missing_input"):
        run_columns(str(tmp_path), **{name: value for name, value in COLUMNS.items() if name != "b"})


def test_an_input_that_is_not_fed_has_its_default(tmp_path):
    save_columns(str(tmp_path))
    defaults = {
        "a": tf.constant([7], tf.int64),
        "b": tf.constant([7], tf.int64),
        "c": tf.constant([0.5]),
        "d": tf.constant([1.0, 2.0]),
    }
    complete_signatures(str(tmp_path), dict.fromkeys(["serving_default", "predict"], defaults), {})
    flatten_graph(str(tmp_path), aliases=["predict"])

    np.testing.assert_allclose(run_columns(str(tmp_path), a=[1, 2])["y"], [18.5, 29.5])
    np.testing.assert_allclose(run_columns(str(tmp_path))["y"], [78.5, 79.5])
    ops = [node.op for node in read(str(tmp_path)).graph_def.node]
    assert ops.count("PlaceholderWithDefault") == 3  # a and b have the same default
    assert ops.count("Placeholder") == 1  # of the file's name


def test_an_initialisation_of_tables_stays(tmp_path):
    module = tf.Module()
    module.table = tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(["a"], [5]), default_value=-1)
    specs = [tf.TensorSpec([None], tf.string, name="x")]
    look_up = tf.function(lambda x: {"y": module.table.lookup(x)}, input_signature=specs)
    tf.saved_model.save(module, str(tmp_path), signatures={"serving_default": look_up})

    flatten_graph(str(tmp_path))

    [outputs] = run(str(tmp_path), "serving_default", np.array(["a", "b"]))
    np.testing.assert_array_equal(outputs["y"], [5, -1])


def test_small_weights_become_constants_and_large_ones_stay(tmp_path):
    model = keras.Sequential([keras.Input((300,)), keras.layers.Dense(300), keras.layers.Dense(1)])
    weights = small_weights(model)
    x = np.random.default_rng(0).normal(size=(5, 300)).astype("float32")

    def predict(x):
        with keras.StatelessScope(weights):
            return model(x, training=False)

    archive = keras.export.ExportArchive()
    archive.add_endpoint("serving_default", predict, [tf.TensorSpec([None, 300], tf.float32, name="x")])
    archive.write_out(str(tmp_path), verbose=False)
    flatten_graph(str(tmp_path))

    [outputs] = run(str(tmp_path), "serving_default", x)
    [output] = outputs.values()
    np.testing.assert_allclose(output, model.predict(x, verbose=0), atol=1e-5)
    assert [value.shape for _, value in weights] == [(300,), (300, 1), (1,)]
    assert [node.op for node in read(str(tmp_path)).graph_def.node].count("VarHandleOp") == 1
