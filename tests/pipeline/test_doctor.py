"""The doctor's findings, on this machine and on simulated bad ones."""

import functools
import importlib.metadata
import platform
import shutil
import sys

import pytest

from pipeline import doctor
from pipeline.doctor import Finding, diagnose


def _find(name: str, root) -> Finding:
    return next(finding for finding in diagnose(str(root)) if finding.name == name)


# Reads the files of all installed packages, which takes a second.
OWNERS = functools.cache(importlib.metadata.packages_distributions)


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch):
    monkeypatch.setattr(doctor.glob, "glob", lambda _: [])
    monkeypatch.setattr(importlib.metadata, "packages_distributions", OWNERS)


def test_every_finding_that_is_not_ok_has_a_cure(tmp_path):
    findings = diagnose(str(tmp_path))
    assert all(finding.cure for finding in findings if finding.status != "ok")
    assert len({finding.name for finding in findings}) == len(findings)


def test_the_root_is_tested_and_not_made(tmp_path):
    assert _find("root", tmp_path / "a" / "b").status == "ok"
    assert list(tmp_path.iterdir()) == []


def test_a_root_below_a_file_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("x")
    finding = _find("root", tmp_path / "file" / "root")
    assert finding.status == "fail"
    assert "--root" in finding.cure


@pytest.mark.parametrize(
    ("version", "status"), [((3, 10), "fail"), ((3, 11), "ok"), ((3, 12), "warn"), ((3, 13), "fail")]
)
def test_python_must_be_3_11(monkeypatch, version, status):
    monkeypatch.setattr(sys, "version_info", (*version, 0, "final", 0))
    assert doctor._check_python().status == status


@pytest.mark.parametrize(
    ("libc", "status"),
    [(("glibc", "2.36"), "fail"), (("glibc", "2.39"), "ok"), (("glibc", "2.41"), "ok"), (("", ""), "fail")],
)
def test_tfx_needs_a_new_c_library(monkeypatch, tmp_path, libc, status):
    monkeypatch.setattr(platform, "libc_ver", lambda: libc)
    assert _find("glibc", tmp_path).status == status


def test_an_old_or_absent_package_fails(monkeypatch, tmp_path):
    real = importlib.metadata.version

    def version(name):
        if name == "kfp":
            raise importlib.metadata.PackageNotFoundError(name)
        return "1.0" if name == "keras" else real(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    assert _find("kfp", tmp_path).detail == "is not installed"
    keras = _find("keras", tmp_path)
    assert keras.status == "fail"
    assert "1.0 is installed" in keras.detail


def test_a_name_that_two_distributions_ship_is_a_clash(monkeypatch, tmp_path):
    owners = {"pipeline": ["keras-dimgrow", "other-pipeline"], "tests": ["keras-dimgrow"]}
    monkeypatch.setattr(importlib.metadata, "packages_distributions", lambda: owners)
    clash = _find("package pipeline", tmp_path)
    assert clash.status == "fail"
    assert "other-pipeline" in clash.detail
    assert _find("package tests", tmp_path).status == "fail"
    assert _find("package serving", tmp_path).status == "warn"


def test_a_package_that_imports_from_elsewhere_is_a_clash(monkeypatch, tmp_path):
    (tmp_path / "serving").mkdir()
    (tmp_path / "serving" / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "serving", raising=False)
    finding = _find("package serving", tmp_path)
    assert finding.status == "fail"
    assert str(tmp_path) in finding.detail


@pytest.mark.parametrize(("free_gb", "status"), [(0.5, "fail"), (3, "warn"), (50, "ok")])
def test_a_full_disk_is_found(monkeypatch, tmp_path, free_gb, status):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=int(free_gb * 1e9)))
    assert _find("disk", tmp_path).status == status


@pytest.mark.parametrize(("output", "status"), [("2", "ok"), ("0", "warn"), ("", "warn")])
def test_a_gpu_that_tensorflow_cannot_use_is_found(monkeypatch, tmp_path, output, status):
    monkeypatch.setattr(doctor.glob, "glob", lambda _: ["/dev/nvidia0"])
    completed = doctor.subprocess.CompletedProcess([], 0, stdout=f"noise\n{output}" if output else "")
    monkeypatch.setattr(doctor.subprocess, "run", lambda *args, **kwargs: completed)
    assert _find("GPU", tmp_path).status == status


def test_helpers_that_are_absent_are_no_failure(monkeypatch, tmp_path):
    monkeypatch.setattr(shutil, "which", lambda _: None)
    assert _find("docker", tmp_path).status == "ok"
    assert "not found" in _find("tensorflow_model_server", tmp_path).detail
