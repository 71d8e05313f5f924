"""A third party's client, Intel's ovmsclient, asks the local server.

It carries TensorFlow's protos under names of its own, which cannot be in one process with TensorFlow's: hence a
process of its own. OVMSCLIENT_PYTHON may name a Python that has it, if this one has not.
"""

import importlib.util
import json
import os
import subprocess
import sys

import pytest

from tests.serving.servers import run_server
from tests.serving.small_models import expect_scores, save_small_model

PYTHON = os.environ.get("OVMSCLIENT_PYTHON") or (importlib.util.find_spec("ovmsclient") and sys.executable)
ROWS = [{"age": 3.0, "city": "Berlin", "code": 7}, {"age": -8.5, "city": "Zürich", "code": -3}]

_ASK = """
import json, sys
import numpy as np
import ovmsclient

make, address, rows = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
client = getattr(ovmsclient, make)(address)
inputs = {
    "age": np.array([row["age"] for row in rows], np.float32),
    "city": [row["city"].encode() for row in rows],
    "code": np.array([row["code"] for row in rows], np.int64),
}
try:
    client.predict(inputs, "other", 3)
    error = None
except ovmsclient.ModelServerError as raised:
    error = type(raised).__name__
try:
    client.predict({"age": inputs["age"]}, "small", 3)
    wrong = None
except ovmsclient.ModelServerError as raised:
    wrong = type(raised).__name__
print(json.dumps({
    "outputs": client.predict(inputs, "small", 3).tolist(),
    "status": client.get_model_status("small", 3),
    "has_metadata": bool(client.get_model_metadata("small", 3)),
    "no model": error,
    "no columns": wrong,
}))
"""


@pytest.mark.skipif(not PYTHON, reason="ovmsclient is not installed, and OVMSCLIENT_PYTHON names no Python that has it")
@pytest.mark.parametrize("make", ["make_grpc_client", "make_http_client"])
def test_ovmsclient_predicts_and_sees_status_metadata_and_errors(tmp_path, make):
    save_small_model(tmp_path / "3")
    with run_server(tmp_path, model_name="small") as server:
        url = server.grpc_url if make == "make_grpc_client" else server.rest_url
        done = subprocess.run(
            [str(PYTHON), "-c", _ASK, make, url.partition("://")[2], json.dumps(ROWS)],
            capture_output=True,
            text=True,
            env={"PATH": os.environ["PATH"]},
        )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert [row[0] for row in answer["outputs"]] == pytest.approx(expect_scores(ROWS).tolist(), abs=1e-6)
    assert answer["status"] == {"3": {"state": "AVAILABLE", "error_code": 0, "error_message": ""}}
    assert answer["has_metadata"]
    assert (answer["no model"], answer["no columns"]) == ("ModelNotFoundError", "InvalidInputError")
