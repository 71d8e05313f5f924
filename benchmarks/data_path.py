"""The way of the rows from a Criteo file to the search: time per row and memory over three sizes, and against CsvExampleGen.

Synthetic rows in Criteo's form: 39 fields, vocabularies of 10 to 300,000, a tenth to a fifth of the cells missing. Each size
goes through the reader (`pipeline.datasets`), ImportExampleGen, Transform and `read_split`, each in a process of its own.
Times are CPU seconds, children included, so that ours do not look better for using both cores; rows a second are by wall
time, each of one process. Memory is the peak of the process and its children together.
`python benchmarks/data_path.py --rounds 1`: 20 to 30 minutes on 2 cores, nearly all of it Transform; ROWS=20000 before it
takes smaller sizes: 20,000, 40,000 and 80,000 rows.
"""

import functools
import json
import os
import shutil
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.csv as pcsv
from harness import Figure, main

SIZES = tuple(int(os.environ.get("ROWS", "200000")) * times for times in (1, 2, 4))
BATCH_SIZE = 8192
STEPS = 10
BEAM = ["--runner=FnApiRunner", "--direct_num_workers=1"]
CHUNK = 100_000
# What a case leaves to the next one; the last one removes it.
WORK = Path(tempfile.gettempdir(), f"data_path-{SIZES[0]}")


class Usage:
    """CPU seconds of this process and its children while the context is open, without its own, and the peak of their memory."""

    def __enter__(self) -> "Usage":
        self._process, self._is_done, self.peak_bytes = psutil.Process(), False, 0
        self._begin = sum(os.times()[:4])
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._is_done:
            total = self._process.memory_info().rss
            for child in self._process.children(recursive=True):
                try:
                    total += child.memory_info().rss
                except psutil.Error:  # it has just ended
                    continue
            self.peak_bytes = max(self.peak_bytes, total)
            time.sleep(0.2)  # listing the children is slow
        self._own_seconds = time.thread_time()

    def __exit__(self, *exc_info) -> None:
        seconds = sum(os.times()[:4]) - self._begin
        self._is_done = True
        self._thread.join()
        self.seconds = seconds - self._own_seconds

    def per_row(self, num_rows: int) -> dict[str, float]:
        """Microseconds a row, and bytes."""
        return {"us_per_row": 1e6 * self.seconds / num_rows, "peak": self.peak_bytes}


def write_source(path: Path, num_rows: int) -> None:
    """Rows in Criteo's form, drawn from one seed."""
    rng = np.random.default_rng(0)
    sizes = np.geomspace(10, 300_000, 26).astype(int)
    pools = [pa.array([f"{(i * 2654435761 + f * 40503) % 2**32:08x}" for i in range(s)]) for f, s in enumerate(sizes)]
    options = pcsv.WriteOptions(include_header=False, delimiter="\t", quoting_style="none")
    path.parent.mkdir(parents=True, exist_ok=True)
    with pa.OSFile(str(path), "wb") as file:
        for begin in range(0, num_rows, CHUNK):
            rows = min(CHUNK, num_rows - begin)
            columns = [pa.array((rng.random(rows) < 0.25).astype(int))]
            for _ in range(13):
                counts = np.floor(rng.lognormal(2, 1.5, rows)).astype(int)
                columns.append(pa.array(counts, mask=rng.random(rows) < 0.2))
            for pool in pools:
                ids = np.minimum((len(pool) ** rng.random(rows)).astype(int), len(pool) - 1)
                columns.append(pool.take(pa.array(ids, mask=rng.random(rows) < 0.1)))
            pcsv.write_csv(pa.table(columns, [str(i) for i in range(40)]), file, options)


def source(num_rows: int) -> Path:
    """The file of so many rows, written if it is not there."""
    path = WORK / str(num_rows) / "train.txt"
    if not path.exists():
        part = path.with_suffix(".part")
        write_source(part, num_rows)
        part.rename(path)
    return path


def load_criteo(path: Path):
    """The shipped configuration for the file."""
    from pipeline.config import load_config

    return load_config("criteo", data_path=str(path))


def read(num_rows: int) -> dict[str, float]:
    """The text becomes shards of tf.Examples."""
    from pipeline.datasets import prepare

    path = source(num_rows)
    root = path.parent / "root"
    shutil.rmtree(root, ignore_errors=True)
    with Usage() as usage:
        prepared = prepare(load_criteo(path), str(root))
    (path.parent / "prepared").write_text(prepared.directory)
    return usage.per_row(prepared.num_rows)


def run_example_gen(executor_class, directory: str, examples, num_rows: int) -> dict[str, float]:
    """An ExampleGen's executor, its output divided 8:1:1."""
    from tfx.proto import example_gen_pb2
    from tfx.utils import proto_utils

    shutil.rmtree(examples.uri, ignore_errors=True)
    split = example_gen_pb2.SplitConfig.Split
    splits = [split(name=name, hash_buckets=buckets) for name, buckets in (("train", 8), ("eval", 1), ("test", 1))]
    properties = {
        "input_base": directory,
        "input_config": proto_utils.proto_to_json(
            example_gen_pb2.Input(splits=[example_gen_pb2.Input.Split(name="all", pattern="*")])
        ),
        "output_config": proto_utils.proto_to_json(
            example_gen_pb2.Output(split_config=example_gen_pb2.SplitConfig(splits=splits))
        ),
        "output_data_format": example_gen_pb2.FORMAT_TF_EXAMPLE,
    }
    context = executor_class.Context(beam_pipeline_args=BEAM, tmp_dir=str(WORK / "tmp"), unique_id="1")
    with Usage() as usage:
        executor_class(context).Do({}, {"examples": [examples]}, properties)
    return usage.per_row(num_rows)


def make_examples(directory: Path):
    """The artifact of examples in a directory, with our three splits."""
    from tfx.types import artifact_utils, standard_artifacts

    examples = standard_artifacts.Examples()
    examples.uri = str(directory)
    examples.split_names = artifact_utils.encode_split_names(["train", "eval", "test"])
    return examples


def import_shards(num_rows: int) -> dict[str, float]:
    """The shards become the splits."""
    from pipeline.example_gen.executor import Executor

    home = source(num_rows).parent
    return run_example_gen(Executor, (home / "prepared").read_text(), make_examples(home / "examples"), num_rows)


def import_csv(num_rows: int) -> dict[str, float]:
    """What CsvExampleGen takes for the same rows; removes what the cases left."""
    from tfx.components.example_gen.csv_example_gen.executor import Executor

    from pipeline.datasets.criteo import COLUMNS

    path = source(num_rows)
    directory = path.parent / "csv"
    directory.mkdir(exist_ok=True)
    with open(path) as rows, open(directory / "rows.csv", "w") as file:
        file.write(",".join(COLUMNS) + "\n")
        file.writelines(line.replace("\t", ",") for line in rows)
    usage = run_example_gen(Executor, str(directory), make_examples(path.parent / "csv_examples"), num_rows)
    shutil.rmtree(WORK)
    return usage


def transform(num_rows: int) -> dict[str, float]:
    """The Transform node: its executor, with the pipeline's own preprocessing_fn."""
    from google.protobuf import text_format
    from tensorflow_metadata.proto.v0 import schema_pb2
    from tfx.proto import transform_pb2
    from tfx.types import standard_artifacts
    from tfx.utils import proto_utils

    from pipeline.transform.executor import Executor

    home = source(num_rows).parent
    config = load_criteo(source(num_rows))
    schema = standard_artifacts.Schema()
    schema.uri = str(home / "schema")
    features = [(name, schema_pb2.INT) for name in (config.data.label, *config.features.integer)]
    features += [(name, schema_pb2.BYTES) for name in config.features.categorical]
    description = schema_pb2.Schema(feature=[schema_pb2.Feature(name=name, type=kind) for name, kind in features])
    (home / "schema").mkdir(exist_ok=True)
    (home / "schema" / "schema.pbtxt").write_text(text_format.MessageToString(description))
    outputs = {
        "transform_graph": standard_artifacts.TransformGraph(),
        "transformed_examples": standard_artifacts.Examples(),
    }
    for name, artifact in outputs.items():
        artifact.uri = str(home / name)
        shutil.rmtree(artifact.uri, ignore_errors=True)
    properties = {
        "preprocessing_fn": "pipeline.preprocessing.preprocessing_fn",
        "custom_config": json.dumps({"label": config.data.label, "features": config.features.to_dict()}),
        "splits_config": proto_utils.proto_to_json(
            transform_pb2.SplitsConfig(analyze=["train"], transform=["train", "eval"])
        ),
        "force_tf_compat_v1": 0,
        "disable_statistics": 1,
    }
    context = Executor.Context(beam_pipeline_args=BEAM, tmp_dir=str(WORK / "tmp"), unique_id="1")
    with Usage() as usage:
        inputs = {"examples": [make_examples(home / "examples")], "schema": [schema]}
        Executor(context).Do(inputs, {name: [artifact] for name, artifact in outputs.items()}, properties)
    return usage.per_row(num_rows)


def find_train_split(num_rows: int):
    """(fields, files of the train split)."""
    import tensorflow as tf
    import tensorflow_transform as tft

    from components.transformed_data import fields_of

    home = source(num_rows).parent
    fields = fields_of(tft.TFTransformOutput(str(home / "transform_graph")), "label")
    return fields, tf.io.gfile.glob(str(home / "transformed_examples" / "Split-train" / "*"))


def search_input(num_rows: int) -> dict[str, float]:
    """Two passes over the train split: rows a second of the first, in which the records are parsed, and of the second.

    The first one's time has all that `read_split` does before its first batch, tracing too, but not the import of TensorFlow.
    """
    from components.transformed_data import read_split

    rates = []
    with Usage() as usage:
        fields, files = find_train_split(num_rows)
        begin = time.perf_counter()
        batches = read_split(files, fields, "label", BATCH_SIZE, shuffle_seed=0)
        for _ in range(2):
            rows = sum(len(labels) for _, labels in batches)
            rates.append(rows / (time.perf_counter() - begin))
            begin = time.perf_counter()
    return usage.per_row(num_rows) | {"first_rows_per_s": rates[0], "later_rows_per_s": rates[1]}


def search_step(num_rows: int) -> dict[str, float]:
    """Rows a second that the search's step takes, from batches that lie in memory."""
    from criteo_profile import ADAPTER_WIDTH, make_batches, mixed_dims

    import keras_dimgrow as kd

    fields, _ = find_train_split(num_rows)
    # As `keras_dimgrow.methods.dimgrow`, the default, builds its model.
    settings = kd.ModelConfig(adapter_width=ADAPTER_WIDTH)
    layer = kd.GrowableEmbedding(fields, mixed_dims(), ADAPTER_WIDTH, settings.adapter, seed=0)
    model = kd.build_model(layer, settings, 0)
    model.compile(kd.LazyAdam(1e-3), "binary_crossentropy")
    batches = make_batches(fields, BATCH_SIZE, num_batches=STEPS)
    seconds = []
    for _ in range(4):
        begin = time.perf_counter()
        model.fit(batches, steps_per_epoch=STEPS, verbose=0, shuffle=False)
        seconds.append(time.perf_counter() - begin)
    return {"rows_per_s": STEPS * BATCH_SIZE / statistics.median(seconds[1:])}


# A first pass takes less than a second, so that what else the machine does decides; each is a process of its own, with a step
# in turn, that slows down as it does.
TURNS = ("first", "second", "third")
STAGES: dict[str, Callable[[int], dict[str, float]]] = {"read": read, "import": import_shards, "transform": transform}
for turn in TURNS:
    STAGES |= {f"input_{turn}": search_input, f"step_{turn}": search_step}
CASES = {f"{stage}_{size}": functools.partial(run, size) for size in SIZES for stage, run in STAGES.items()}
CASES["csv"] = functools.partial(import_csv, SIZES[0])


def growth(stage: str, key: str):
    """The largest size's number against the smallest one's."""
    return lambda results: results[f"{stage}_{SIZES[-1]}"][key] / results[f"{stage}_{SIZES[0]}"][key]


def against_csv(results) -> float:
    """Our CPU time a row, the reader's and the import's, as a share of CsvExampleGen's."""
    ours = sum(results[f"{stage}_{SIZES[0]}"]["us_per_row"] for stage in ("read", "import"))
    return ours / results["csv"]["us_per_row"]


def need(key: str):
    """The rows that the step takes as a share of those that it could get: the worst size, the median of its turns."""

    def share(results) -> float:
        return max(
            statistics.median(
                results[f"step_{turn}_{size}"]["rows_per_s"] / results[f"input_{turn}_{size}"][key] for turn in TURNS
            )
            for size in SIZES
        )

    return share


SPAN = f"{SIZES[-1]:,} rows / {SIZES[0]:,} rows"
FIGURES = [
    Figure(f"Transform, time per row: {SPAN}", 1.1, 1.0, growth("transform", "us_per_row")),
    Figure(f"reader, peak memory: {SPAN}", 1.2, 1.05, growth("read", "peak")),
    Figure(f"import, peak memory: {SPAN}", 1.2, 1.05, growth("import", "peak")),
    Figure(f"search input, peak memory: {SPAN}", 1.2, 1.05, growth("input_first", "peak")),
    Figure("search step's need / tf.data's rows, first pass, worst size", 1 / 1.5, 1 / 3, need("first_rows_per_s")),
    Figure("search step's need / tf.data's rows, later passes, worst size", 1 / 1.5, 1 / 3, need("later_rows_per_s")),
    Figure("reader and import / CsvExampleGen, CPU time", 1 / 2, 1 / 5, against_csv),
]

if __name__ == "__main__":
    sys.exit(main(__file__, "The data path: Criteo's form, 39 fields", CASES, FIGURES))
