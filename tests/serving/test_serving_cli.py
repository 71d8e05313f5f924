"""`python -m serving` on an export, and a server of it."""

import io
import json
import re
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.cli import main
from serving.client import ServingClient
from serving.client_errors import ColumnError
from tests.serving.conftest import LARGEST_INTEGER, RAW_FEATURE_SPEC, ROWS
from tests.serving.servers import run_server

VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.floats(),
    st.integers(),
    st.text(max_size=9),
    st.sampled_from(["-0", "+7", "7.", "1e9", "9" * 400, "x" * 100_000, 10**400, LARGEST_INTEGER + 1, -1e300]),
)


def test_help_needs_no_tensorflow():
    code = "import sys, serving.cli\ntry: serving.cli.main(['--help'])\nfinally: assert 'tensorflow' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    commands = re.findall(r"^    (\w+)\s+\w", done.stdout, re.M)
    asking, serving = ["check", "predict", "status", "metadata"], ["local", "publish", "versions", "rollback"]
    assert commands == [*asking, *serving, "warmup", "configure"]


@pytest.mark.parametrize("source", ["argument", "file", "stdin"])
def test_predict_prints_one_json_line_per_row(exported, capsys, monkeypatch, tmp_path, source):
    text = json.dumps([ROWS[0], {"age": None}])
    (tmp_path / "rows.json").write_text(text)
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))
    argument = {"argument": text, "file": f"@{tmp_path / 'rows.json'}", "stdin": "-"}[source]
    assert main(["predict", exported.directory, "--json", argument]) == 0
    outputs = [json.loads(line)["outputs"] for line in capsys.readouterr().out.splitlines()]
    assert outputs == pytest.approx(exported.expect([ROWS[0], {}]), abs=1e-5)


def test_predict_takes_a_single_object(exported, capsys):
    assert main(["predict", exported.directory, "--json", '{"age": 39}', "--signature", "serving_default"]) == 0
    assert json.loads(capsys.readouterr().out)["outputs"] == pytest.approx(exported.expect([{"age": 39}])[0], abs=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["check", "/nowhere"], "error: No such directory: /nowhere."),
        (["predict", "/nowhere", "--json", "{age: 39}"], "error: --json is no JSON:"),
        (["predict", "/nowhere", "--json", "[1]"], "error: --json: row 0 must be an object"),
        (
            ["predict", "/nowhere", "--json", "@/nowhere.json"],
            "error: [Errno 2] No such file or directory: '/nowhere.json'",
        ),
    ],
)
def test_errors_are_one_line_and_status_2(capsys, arguments, message):
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith(message)
    assert error.count("\n") == 1


def test_a_failed_check_is_status_2_and_lists_the_problems(capsys, monkeypatch, exported):
    import serving.check

    result = serving.check.SignatureCheck(
        "predict", {"x": "float32 [?]"}, ("1 x all missing",), 0.0, 0.0, {}, ("it is wrong",)
    )
    monkeypatch.setattr(serving.check, "check_saved_model", lambda path: [result])
    assert main(["check", exported.directory]) == 2
    assert capsys.readouterr().out.splitlines()[1:] == ["predict    x: float32 [?]  1 problem", "predict: it is wrong"]


def test_debug_shows_the_stack(exported):
    with pytest.raises(FileNotFoundError, match="No such directory"):
        main(["check", "/nowhere", "--debug"])


@pytest.fixture(scope="module")
def server(exported):
    with run_server(exported.directory) as server:
        yield server


@pytest.fixture(scope="module")
def clients(server):
    with ServingClient(server.grpc_url) as over_grpc, ServingClient(server.rest_url) as over_rest:
        yield over_grpc, over_rest


@pytest.mark.parametrize("protocol", ["grpc", "rest"])
def test_a_server_of_an_export_predicts_what_keras_does(exported, server, capsys, protocol):
    url = server.grpc_url if protocol == "grpc" else server.rest_url
    rows = [*ROWS, {}, {"Region_code": 7, "age": "39"}]
    assert main(["predict", "--url", url, "--json", json.dumps(rows)]) == 0
    outputs = [json.loads(line)["outputs"] for line in capsys.readouterr().out.splitlines()]
    expected = exported.expect([*ROWS, {}, {"Region code": 7, "age": 39}])
    assert outputs == pytest.approx(expected.tolist(), abs=1e-5)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(row=st.dictionaries(st.sampled_from([*RAW_FEATURE_SPEC, "agee"]), VALUES))
def test_any_row_is_predicted_or_refused_by_a_server_of_an_export(exported, clients, row):
    answers = []
    for client in clients:
        try:
            answers.append(float(client.predict([row])["outputs"][0, 0]))
        except ColumnError:
            answers.append(None)
    assert answers[0] == answers[1]
    assert answers[0] is None or 0 < answers[0] < 1
    np.testing.assert_allclose(clients[0].predict(ROWS)["outputs"][:, 0], exported.expect(ROWS), atol=1e-5)
