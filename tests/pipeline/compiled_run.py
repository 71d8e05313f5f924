"""Runs a compiled pipeline as a cluster does: each node's own command in a process of its own, in an environment of its own.

Stands for Vertex AI's service: orders the tasks, puts an ExecutorInput where a command says {{$}}, resolves what resolvers ask
for, and hands each node's outputs to the next.
"""

import dataclasses
import graphlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import sysconfig

from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2

ROOT = pathlib.Path(__file__).parents[2]


def install_wheel(directory: pathlib.Path) -> pathlib.Path:
    """An environment with this project's wheel, and beside it the packages that it needs but not the checkout.

    Returns the environment's directory of commands.
    """
    source, wheels, environment = directory / "source", directory / "wheels", directory / "venv"
    for package in ("keras_dimgrow", "components", "pipeline", "serving"):
        shutil.copytree(ROOT / package, source / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    wheels.mkdir()
    build = "import sys, setuptools.build_meta as backend; backend.build_wheel(sys.argv[1])"
    run([sys.executable, "-c", build, str(wheels)], source)
    run([sys.executable, "-m", "venv", "--without-pip", str(environment)], directory)
    (packages,) = environment.glob("lib/python*/site-packages")
    (wheel,) = wheels.iterdir()
    run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(packages), str(wheel)],
        directory,
    )
    # Path files of a directory that is added by a path file are not read: the editable installation stays out.
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return environment / "bin"


def run(command: list[str], directory: pathlib.Path, path: pathlib.Path | None = None) -> str:
    """Output of a command in a fresh process without PYTHONPATH; `path` is searched for it first."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    environment["TF_USE_LEGACY_KERAS"] = "1"  # as the image says
    if path is not None:
        environment["PATH"] = f"{path}{os.pathsep}{environment['PATH']}"
    done = subprocess.run(command, cwd=directory, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command[:4]}\n{done.stdout[-2000:]}\n{done.stderr[-6000:]}"
    return done.stdout


@dataclasses.dataclass
class CompiledRun:
    """One run of a compiled pipeline.

    Args:
        spec: the PipelineSpec, JSON.
        parameters: of the run; the others have their defaults.
        bucket: directory that stands for the bucket of artifacts.
        directory: where the processes start; empty.
        path: directory of the command `python`.
    """

    spec: dict
    parameters: dict[str, str]
    bucket: pathlib.Path
    directory: pathlib.Path
    path: pathlib.Path
    outputs: dict[tuple[str, str], list[dict]] = dataclasses.field(default_factory=dict)
    commands: dict[str, list[str]] = dataclasses.field(default_factory=dict)

    def run_all(self) -> None:
        tasks = self.spec["root"]["dag"]["tasks"]
        graph = {name: set(task.get("dependentTasks", ())) for name, task in tasks.items()}
        for name, task in tasks.items():
            for source in task.get("inputs", {}).get("artifacts", {}).values():
                graph[name].add(source["taskOutputArtifact"]["producerTask"])
        for name in graphlib.TopologicalSorter(graph).static_order():
            self._run_task(name, tasks[name])

    def uri(self, task: str, output: str) -> str:
        """Where an output of a task lies."""
        (artifact,) = self.outputs[task, output]
        return artifact["uri"]

    def _run_task(self, name: str, task: dict) -> None:
        component = self.spec["components"][task["componentRef"]["name"]]
        executor = self.spec["deploymentSpec"]["executors"][component["executorLabel"]]
        home = self.bucket / name
        kinds = component.get("outputDefinitions", {}).get("artifacts", {})
        if "resolver" in executor:
            # Nothing ran before in this bucket: what the query asks for is not there.
            self.outputs |= {(name, key): [] for key in kinds}
            return
        outputs = {
            key: {"name": f"artifacts/{name}-{key}", "uri": str(home / key), "type": kind["artifactType"]}
            for key, kind in kinds.items()
        }
        output_file = home / "executor_output.json"
        container = executor["container"]
        if "lifecycle" in container:
            driver = container["lifecycle"]["preCacheCheck"]
            self._run_command(f"{name} driver", driver, task, outputs, output_file)
            _merge(outputs, output_file)
        self._run_command(name, container, task, outputs, output_file)
        _merge(outputs, output_file)
        self.outputs |= {(name, key): [artifact] for key, artifact in outputs.items()}

    def _run_command(self, name: str, container: dict, task: dict, outputs: dict, output_file: pathlib.Path) -> None:
        artifacts = {}
        for key, source in task.get("inputs", {}).get("artifacts", {}).items():
            producer = source["taskOutputArtifact"]
            artifacts[key] = {"artifacts": self.outputs[producer["producerTask"], producer["outputArtifactKey"]]}
        values = {key: self._resolve(value) for key, value in task.get("inputs", {}).get("parameters", {}).items()}
        executor_input = {
            "inputs": {"artifacts": artifacts, "parameterValues": values},
            "outputs": {
                "artifacts": {key: {"artifacts": [artifact]} for key, artifact in outputs.items()},
                "outputFile": str(output_file),
            },
        }
        json_format.ParseDict(executor_input, pipeline_spec_pb2.ExecutorInput())  # rejects what is none
        text = json.dumps(executor_input)
        self.commands[name] = [
            *container["command"],
            *(arg.replace("{{$}}", text) for arg in container.get("args", ())),
        ]
        run(self.commands[name], self.directory, self.path)

    def _resolve(self, value: dict):
        if "componentInputParameter" in value:
            name = value["componentInputParameter"]
            default = self.spec["root"]["inputDefinitions"]["parameters"][name]["defaultValue"]
            return self.parameters.get(name, default)
        return value["runtimeValue"]["constant"]


def _merge(outputs: dict, output_file: pathlib.Path) -> None:
    """Takes over what a process says of its outputs, as the cluster's metadata store does."""
    for key, listed in json.loads(output_file.read_text()).get("artifacts", {}).items():
        (told,) = listed["artifacts"]
        outputs[key]["metadata"] = outputs[key].get("metadata", {}) | told.get("metadata", {})
