"""The container image: what its Dockerfile copies, installs and starts. Docker is not at hand here, so its build is not run."""

import ast
import fnmatch
import importlib.metadata
import importlib.util
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = pathlib.Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text()


def _instructions(name: str) -> list[list[str]]:
    """The words behind every `name` of the Dockerfile."""
    return [line.split()[1:] for line in DOCKERFILE.splitlines() if line.split()[:1] == [name]]


COPIED = [source for *sources, _ in _instructions("COPY") if not sources[0].startswith("--from") for source in sources]
STAGES = {name: image for image, _, name in _instructions("FROM")}


def _is_ignored(path: str) -> bool:
    """Docker's rule: of the patterns that match the path or a directory above it, the last decides."""
    parts = path.split("/")
    above = ["/".join(parts[: n + 1]) for n in range(len(parts))]
    is_ignored = False
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        if line and not line.startswith("#"):
            expression = re.escape(line.removeprefix("!")).replace(r"\*\*/", "(?:.*/)?").replace(r"\*", "[^/]*")
            if any(re.fullmatch(expression, prefix) for prefix in above):
                is_ignored = not line.startswith("!")
    return is_ignored


def _files_below(source: str) -> list[str]:
    if (ROOT / source).is_file():
        return [source]
    found = (path for path in (ROOT / source).rglob("*") if path.is_file())
    return sorted(path.relative_to(ROOT).as_posix() for path in found)


@pytest.fixture(scope="module")
def locked():
    """Name and version of every package in the two lock files that the image installs."""
    return {
        name: dict(re.findall(r"^([\w.-]+)==(\S+)", (ROOT / f"requirements/{name}.txt").read_text(), re.M))
        for name in ("pipeline", "gpu")
    }


def test_hadolint_accepts_the_dockerfile():
    tool = pathlib.Path(sys.executable).with_name("hadolint")
    done = subprocess.run(
        [tool, "--failure-threshold", "style", "Dockerfile"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")


def test_everything_copied_exists_and_is_not_ignored():
    assert len(COPIED) == len(set(COPIED)) > 0
    for source in COPIED:
        assert (ROOT / source).exists(), source
        assert not _is_ignored(source), source


@pytest.mark.parametrize(
    "path",
    [
        *(".git/config", ".venv/bin/python", "runs/adult/metadata.sqlite", "tests/conftest.py", "requirements/dev.txt"),
        *("Dockerfile", "data.csv", "keras_dimgrow/__pycache__/plan.pyc", "serving/local_server/__pycache__/x.pyc"),
    ],
)
def test_what_the_image_does_not_need_is_not_sent_to_its_build(path):
    assert _is_ignored(path)


def test_what_is_copied_builds_the_whole_wheel(tmp_path):
    copied = [path for source in COPIED for path in _files_below(source) if not _is_ignored(path)]
    for path in copied:
        (tmp_path / "build" / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, tmp_path / "build" / path)
    build = "import sys, setuptools.build_meta as backend; print(backend.build_wheel(sys.argv[1]))"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", build, str(tmp_path)],
        cwd=tmp_path / "build",
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    patterns = ["*.py", *setuptools["package-data"]["*"]]
    packages = [name.removesuffix("*") for name in setuptools["packages"]["find"]["include"]]
    expected = {
        path
        for package in packages
        for path in _files_below(package)
        if "__pycache__" not in path and any(fnmatch.fnmatch(path.rpartition("/")[2], p) for p in patterns)
    }
    assert {f"{package}/__init__.py" for package in packages} <= expected
    with zipfile.ZipFile(wheel) as archive:
        assert {name for name in archive.namelist() if ".dist-info/" not in name} == expected


def test_the_wheel_is_installed_without_dependencies_over_a_lock_file_with_hashes():
    installs = re.findall(r"pip install (.*)", DOCKERFILE)
    *locks, wheel = installs
    assert [re.sub(r".*-r ", "", lock) for lock in locks] == ["requirements/pipeline.txt", "requirements/gpu.txt"]
    assert all("--require-hashes" in lock for lock in locks)
    assert "--no-deps" in wheel


def test_the_lock_of_the_gpu_variant_is_what_tensorflow_asks_for_and_no_more(locked):
    requirements = [Requirement(text) for text in importlib.metadata.requires("tensorflow")]
    cuda = [r for r in requirements if r.marker and r.marker.evaluate({"extra": "and-cuda"})]
    cuda = [r for r in cuda if not r.marker.evaluate({"extra": ""})]
    assert {r.name for r in cuda} <= set(locked["gpu"])
    assert all(Version(locked["gpu"][r.name]) in r.specifier for r in cuda)
    assert all(name.startswith("nvidia-") for name in locked["gpu"])
    assert not set(locked["gpu"]) & set(locked["pipeline"])


def test_the_worker_starts_with_the_boot_program_of_the_locked_beam(locked):
    assert STAGES["beam"] == f"apache/beam_python3.11_sdk:{locked['pipeline']['apache-beam']}"


def test_what_is_built_and_what_runs_are_the_same_debian_and_python():
    images = {image for image in STAGES.values() if image.startswith("python:")}
    assert images == {"python:3.11-trixie", "python:3.11-slim-trixie"}


def test_no_image_runs_as_root_and_none_comes_from_a_particular_registry():
    assert _instructions("USER") == [["1000:1000"]]
    between = DOCKERFILE.partition(" AS base\n")[2].partition("\nFROM ")[0]
    assert "\nUSER 1000:1000" in between
    assert STAGES["nodes"] == STAGES["worker"] == "base"
    for image in STAGES.values():
        assert "." not in image.partition("/")[0].partition(":")[0]


def test_the_nodes_start_as_compiled_pipelines_start_them():
    """The command stands in a module that takes long to import, so it is read there."""
    (tfx,) = importlib.util.find_spec("tfx").submodule_search_locations
    runner = pathlib.Path(tfx, "orchestration/kubeflow/v2/kubeflow_v2_dag_runner.py").read_text()
    (command,) = re.findall(r"^KUBEFLOW_TFX_CMD = (\(.*?\))$", runner, re.M | re.S)
    last = DOCKERFILE.rstrip().splitlines()[-1]
    assert json.loads(last.removeprefix("ENTRYPOINT ")) == list(ast.literal_eval(command))


@pytest.mark.parametrize("variant", ["cpu", "gpu"])
@pytest.mark.parametrize("target", ["nodes", "worker"])
def test_make_image_builds_stages_that_exist(variant, target):
    command = [
        "make",
        "--dry-run",
        "--no-print-directory",
        "image",
        "IMAGE=a:1",
        f"VARIANT={variant}",
        f"TARGET={target}",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [
        *("docker", "build", "--build-arg", f"VARIANT={variant}", "--target", target, "--tag", "a:1", ".")
    ]
    assert {target, f"environment-{variant}"} <= set(STAGES)
