"""Checks of the machine and the installation, each with its cure: `python -m pipeline doctor`."""

import dataclasses
import glob
import importlib.metadata
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
from typing import Literal

from packaging.requirements import Requirement
from packaging.version import Version

from pipeline.datasets.root import check_writable, find_existing
from pipeline.errors import UserError

DISTRIBUTION = "keras-dimgrow"
PACKAGES = ("keras_dimgrow", "components", "pipeline", "serving")
EXTRAS = ("", "pipeline", "report", "serving")
# What tfx brings along, and without which it imports but does not run.
TFX_PARTS = (
    "apache-beam",
    "kfp",
    "ml-metadata",
    "tensorflow-data-validation",
    "tensorflow-model-analysis",
    "tensorflow-transform",
)
MIN_GLIBC = "2.39"
FREE_GB = (1, 5)  # below the first a run fails, below the second it may
GPU_DEVICES = ("/dev/nvidia[0-9]*", "/dev/dxg")  # the second under WSL
GPU_TIMEOUT_S = 120
SETUP = "Run `make setup`, or pip install 'keras-dimgrow[pipeline]'."


@dataclasses.dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        name: what.
        status: 'ok'; 'warn' if something works less well than it could; 'fail' if a run will not work.
        detail: what was found.
        cure: what to do; '' if nothing needs to be done.
    """

    name: str
    status: Literal["ok", "warn", "fail"]
    detail: str
    cure: str = ""


def diagnose(root: str) -> list[Finding]:
    """Looks at Python, packages, C library, GPU, disk and helpers; imports neither TFX nor, without a GPU, TensorFlow.

    Args:
        root: the directory in which a pipeline would run; it need not exist and is not made.
    """
    return [
        _check_python(),
        *_check_versions(),
        _check_glibc(),
        *(_check_package(name) for name in PACKAGES),
        _check_tests_package(),
        _check_gpu(),
        _check_root(root),
        _check_disk(root),
        _look_for("docker", "InfraValidator and image builds need it; all else runs without"),
        _look_for("tensorflow_model_server", "serving over gRPC and REST needs it, or its Docker image"),
    ]


def _check_python() -> Finding:
    version = platform.python_version()
    if sys.version_info[:2] == (3, 11):
        return Finding(name="Python", status="ok", detail=version)
    cure = "Make the environment anew with Python 3.11: make setup PYTHON=python3.11."
    if sys.version_info[:2] == (3, 12):
        detail = f"{version}; tfx installs no kfp on 3.12, so nothing compiles for Vertex AI"
        return Finding(name="Python", status="warn", detail=detail, cure=cure)
    return Finding(name="Python", status="fail", detail=f"{version}; tfx 1.21 supports 3.11", cure=cure)


def _check_versions() -> list[Finding]:
    """One finding for each requirement that our distribution declares, and for what comes with tfx."""
    try:
        declared = [Requirement(text) for text in importlib.metadata.requires(DISTRIBUTION) or []]
    except importlib.metadata.PackageNotFoundError:
        detail = "is not installed, so versions and package names cannot be checked"
        return [Finding(name=DISTRIBUTION, status="fail", detail=detail, cure=SETUP)]
    needed = {
        requirement.name: requirement
        for requirement in declared
        if requirement.name != DISTRIBUTION
        and (requirement.marker is None or any(requirement.marker.evaluate({"extra": extra}) for extra in EXTRAS))
    }
    needed |= {name: Requirement(name) for name in TFX_PARTS}
    return [_check_version(needed[name]) for name in sorted(needed)]


def _check_version(requirement: Requirement) -> Finding:
    name = requirement.name
    try:
        version = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return Finding(name=name, status="fail", detail="is not installed", cure=SETUP)
    if requirement.specifier.contains(version, prereleases=True):
        return Finding(name=name, status="ok", detail=version)
    detail = f"{version} is installed, {requirement.specifier} is needed"
    return Finding(name=name, status="fail", detail=detail, cure=f"pip install '{name}{requirement.specifier}'")


def _check_glibc() -> Finding:
    library, version = platform.libc_ver()
    cure = (
        f"Use a system with glibc >= {MIN_GLIBC} (Ubuntu 24.04, Debian 13); `make setup` brings it to Debian 12. "
        "keras_dimgrow alone runs here too."
    )
    if library != "glibc":
        detail = f"no GNU C library ({platform.platform()}); TFX runs on Linux with glibc >= {MIN_GLIBC}"
        return Finding(name="glibc", status="fail", detail=detail, cure=cure)
    if Version(version) < Version(MIN_GLIBC):
        detail = f"{version}; ml-metadata and tensorflow-data-validation need >= {MIN_GLIBC}"
        return Finding(name="glibc", status="fail", detail=detail, cure=cure)
    return Finding(name="glibc", status="ok", detail=version)


def _check_package(name: str) -> Finding:
    """A top-level package of this name must come from our distribution alone, and from where this file is."""
    owners = sorted(set(importlib.metadata.packages_distributions().get(name, [])))
    home = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    spec = importlib.util.find_spec(name)
    place = os.path.dirname(os.path.dirname(os.path.abspath(spec.origin))) if spec and spec.origin else None
    title = f"package {name}"
    others = [owner for owner in owners if owner != DISTRIBUTION]
    if others:
        detail = f"also belongs to {', '.join(others)}: one overwrites the other's files"
        cure = f"pip uninstall {' '.join(others)}, then install {DISTRIBUTION} again; or use an environment of its own."
        return Finding(name=title, status="fail", detail=detail, cure=cure)
    if place != home:
        detail = f"imports from {place or 'nowhere'}, but pipeline from {home}"
        cure = f"Remove the other {name} from sys.path (PYTHONPATH, current directory), or install again: {SETUP}"
        return Finding(name=title, status="fail", detail=detail, cure=cure)
    if not owners:
        detail = f"from {home}, which is not installed: it is found only from this directory"
        return Finding(name=title, status="warn", detail=detail, cure=SETUP)
    return Finding(name=title, status="ok", detail=f"from {home}")


def _check_tests_package() -> Finding:
    owners = sorted(set(importlib.metadata.packages_distributions().get("tests", [])))
    if DISTRIBUTION in owners:
        detail = f"{DISTRIBUTION} installed its tests as the top-level package `tests`, which others use too"
        cure = f"pip uninstall {DISTRIBUTION}, then install a wheel built from a clean checkout: {SETUP}"
        return Finding(name="package tests", status="fail", detail=detail, cure=cure)
    return Finding(name="package tests", status="ok", detail=f"not ours{f', of {owners[0]}' if owners else ''}")


def _check_gpu() -> Finding:
    # TensorFlow takes seconds to import and prints much: it is asked only if there is a device, and in a process apart.
    if not any(glob.glob(pattern) for pattern in GPU_DEVICES):
        return Finding(name="GPU", status="ok", detail="none found: the search and the trainings run on the CPU")
    code = "import tensorflow as tf; print(len(tf.config.list_physical_devices('GPU')))"
    try:
        result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=GPU_TIMEOUT_S)
        num_gpus = int(result.stdout.split()[-1]) if result.returncode == 0 else 0
    except (subprocess.TimeoutExpired, IndexError, ValueError):
        num_gpus = 0
    if num_gpus:
        return Finding(name="GPU", status="ok", detail=f"{num_gpus} found by TensorFlow")
    cure = "Check the driver (nvidia-smi), then pip install 'tensorflow[and-cuda]' in the version that is installed."
    detail = "the machine has one, but TensorFlow cannot use it: everything runs on the CPU"
    return Finding(name="GPU", status="warn", detail=detail, cure=cure)


def _check_root(root: str) -> Finding:
    try:
        check_writable(root)
    except UserError as error:
        cure = "Make it writable, or choose another directory with --root DIR."
        return Finding(name="root", status="fail", detail=str(error), cure=cure)
    return Finding(name="root", status="ok", detail=f"{root} can be written to")


def _check_disk(root: str) -> Finding:
    free_gb = shutil.disk_usage(find_existing(root)).free / 1e9
    must_gb, should_gb = FREE_GB
    status: Literal["ok", "warn", "fail"] = "fail" if free_gb < must_gb else "warn" if free_gb < should_gb else "ok"
    cure = (
        ""
        if status == "ok"
        else f"Free at least {should_gb} GB, or choose a directory on another disk with --root DIR."
    )
    return Finding(name="disk", status=status, detail=f"{free_gb:.1f} GB free for {root}", cure=cure)


def _look_for(program: str, why: str) -> Finding:
    path = shutil.which(program)
    return Finding(name=program, status="ok", detail=path or f"not found; {why}")
