"""A process of its own in which another program runs a SavedModel's signatures; see `check_tools`."""

import importlib.metadata
import json
import os
import pathlib
import sys
from typing import Any

import numpy as np


def run_saved_model_cli(directory: str, jobs: list[dict[str, Any]]) -> None:
    """`saved_model_cli run` of each job, by the function that TensorFlow installs under this name."""
    (command,) = importlib.metadata.entry_points(group="console_scripts", name="saved_model_cli")
    main = command.load()
    for job in jobs:
        inputs = ";".join(f"{name}={path}" for name, path in job["inputs"].items())
        model = ["--dir", directory, "--tag_set", "serve", "--signature_def", job["signature"]]
        sys.argv = ["saved_model_cli", "run", *model, "--inputs", inputs, "--outdir", job["outputs"], "--overwrite"]
        try:
            main()
        except SystemExit as end:
            if end.code:
                _tell(job, f"exit status {end.code}")
        except Exception as error:
            _tell(job, error)


def run_inference(directory: str, jobs: list[dict[str, Any]]) -> None:
    """tfx_bsl's RunInference of each job: its model handler, which BulkInferrer's workers call, without a Beam pipeline."""
    from tfx_bsl.public.beam.run_inference import CreateModelHandler
    from tfx_bsl.public.proto import model_spec_pb2

    for job in jobs:
        (path,) = job["inputs"].values()
        examples = np.load(path, allow_pickle=True).tolist()
        spec = model_spec_pb2.InferenceSpecType()
        spec.saved_model_spec.model_path = directory
        spec.saved_model_spec.signature_name.append(job["signature"])
        try:
            handler = CreateModelHandler(spec)
            logs = list(handler.run_inference(examples, handler.load_model()))
        except Exception as error:
            _tell(job, error)
            continue
        for name, values in _read_logs(logs).items():
            np.save(os.path.join(job["outputs"], f"{name}.npy"), values)


def _read_logs(logs: list) -> dict[str, np.ndarray]:
    """{output: [B, ...]} of PredictionLogs, one a row."""
    import tensorflow as tf

    if logs[0].HasField("classify_log"):
        rows = [log.classify_log.response.result.classifications[0].classes for log in logs]
        return {
            "scores": np.array([[x.score for x in row] for row in rows], np.float32),
            "classes": np.array([[x.label.encode() for x in row] for row in rows], object),
        }
    if logs[0].HasField("regress_log"):
        values = [[log.regress_log.response.result.regressions[0].value] for log in logs]
        return {"outputs": np.array(values, np.float32)}
    names = logs[0].predict_log.response.outputs
    return {
        name: np.concatenate([tf.make_ndarray(log.predict_log.response.outputs[name]) for log in logs])
        for name in names
    }


def _tell(job: dict[str, Any], error: object) -> None:
    pathlib.Path(job["outputs"], "error.txt").write_text(str(error), encoding="utf-8")


if __name__ == "__main__":
    _, tool, saved_model, jobs_path = sys.argv
    job_list = json.loads(pathlib.Path(jobs_path).read_text(encoding="utf-8"))
    {"saved_model_cli": run_saved_model_cli, "RunInference": run_inference}[tool](saved_model, job_list)
