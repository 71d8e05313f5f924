"""What test_several_workers.py runs in processes of its own: DimSearch's executor on artifacts that lie in DIRECTORY.

`python -m tests.components.search_run DIRECTORY OUTPUT`; prints as JSON whether this process wrote to OUTPUT, the
index of its task added to the name, and what is left of checkpoints.
"""

import json
import os
import sys

from tfx.types import artifact_utils, standard_artifacts

from components import SearchReport
from components.dim_search.executor import Executor
from keras_dimgrow import DimGrowConfig, ModelConfig


def main(directory: str, output: str) -> dict:
    output += str(json.loads(os.environ.get("TF_CONFIG", "{}")).get("task", {}).get("index", ""))
    artifacts = {
        "examples": standard_artifacts.Examples(),
        "transform_graph": standard_artifacts.TransformGraph(),
        "best_hyperparameters": standard_artifacts.HyperParameters(),
        "search_report": SearchReport(),
    }
    artifacts["examples"].uri = os.path.join(directory, "examples")
    artifacts["examples"].split_names = artifact_utils.encode_split_names(["train", "eval"])
    artifacts["transform_graph"].uri = os.path.join(directory, "graph")
    for name in ("best_hyperparameters", "search_report"):
        artifacts[name].uri = os.path.join(output, name)
    lists = {name: [artifact] for name, artifact in artifacts.items()}
    Executor().Do(
        {name: lists[name] for name in ("examples", "transform_graph")},
        {name: lists[name] for name in ("best_hyperparameters", "search_report")},
        {
            "label": "click",
            "method": "dimgrow",
            "parameter_budget": "0.5",
            "method_config": DimGrowConfig(max_steps=60, num_looks=4).to_json(),
            "model_config": ModelConfig(adapter_width=8, hidden_units=(8,)).to_json(),
            "batch_size": 64,
            "seed": 1,
            "uniform_dimension": 16,
            "root": directory,
            "code_version": "",
        },
    )
    return {"wrote": os.path.exists(output), "checkpoints": os.listdir(os.path.join(directory, "checkpoints"))}


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))  # noqa: T201
