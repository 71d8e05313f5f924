"""Writes the files that deploy a model on TensorFlow Serving: with Docker, docker compose, Kubernetes and KServe.

The templates are in serving/templates/; what they become for a model named `ctr` is in serving/deploy/.
"""

import dataclasses
import importlib.resources
import json
import os
import re
import shutil
import string
import tempfile
import textwrap
from collections.abc import Mapping

# The release of tensorflow-serving-api that this package is tested with, and so of the server.
SERVING_VERSION = "2.19.1"

FILES = (
    "models.config",
    "batching.config",
    "monitoring.config",
    "Dockerfile",
    "compose.yaml",
    "kubernetes.yaml",
    "kserve.yaml",
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ServerConfig:
    """What a deployment is called and serves.

    Args:
        name: the model's name, also that of Kubernetes objects: lower case letters, digits and hyphens.
        base_path: where the server finds the versions. None: /models/NAME, where the Dockerfile copies them.
        labels: {label: version} such as {"stable": 3, "canary": 4}; just these versions are served. Empty: the newest is.
        image: of the Dockerfile's result. None: NAME-serving:1.
        storage_uri: the versions' directory as KServe reads it (gs://, s3://, pvc://...). None: pvc://NAME/models.
        use_batching: whether the server joins requests of several clients; they must send every column then.
        serving_version: tag of the image tensorflow/serving.
    """

    name: str
    base_path: str | None = None
    labels: Mapping[str, int] = dataclasses.field(default_factory=dict)
    image: str | None = None
    storage_uri: str | None = None
    use_batching: bool = False
    serving_version: str = SERVING_VERSION

    def __post_init__(self):
        # "-serving" is appended to it, and Kubernetes allows 63 characters.
        if not re.fullmatch(r"[a-z]([a-z0-9-]{0,53}[a-z0-9])?", self.name):
            raise ValueError(
                f"name must be at most 55 lower case letters, digits and hyphens, a letter first and no hyphen last;"
                f" received {self.name!r}."
            )
        for label, version in self.labels.items():
            if not re.fullmatch(r"[A-Za-z0-9_-]+", label) or version < 1:
                raise ValueError(
                    f"A label is letters, digits, _ and -, and a version >= 1; received {label}={version}."
                )
        for field in ("base_path", "image", "storage_uri", "serving_version"):
            value = getattr(self, field)
            if value is not None and not re.fullmatch(r"[A-Za-z0-9._/:@=+-]+", value):
                raise ValueError(f"{field} must be without spaces and quotes; received {value!r}.")


def render_files(config: ServerConfig) -> dict[str, str]:
    """{file name: text} of all files of a deployment."""
    label = "stable" if "stable" in config.labels else next(iter(sorted(config.labels)), None)
    flags = _list_flags(config)
    base_path = (config.base_path or f"/models/{config.name}").rstrip("/")
    is_remote = "://" in base_path  # then the server reads the versions from there, and no copy is needed
    values = {
        "name": config.name,
        "base_path": base_path,
        "copy_models": "" if is_remote else f"COPY models/ {base_path}/\n",
        "mount_models": "" if is_remote else f"      - ./models:{base_path}:ro\n",
        "image": config.image or f"{config.name}-serving:1",
        "storage_uri": config.storage_uri or f"pvc://{config.name}/models",
        "serving_version": config.serving_version,
        "ready_path": f"/v1/models/{config.name}" + (f"/labels/{label}" if label else "") + "/metadata",
        "versions": _format_versions(config.labels),
        "flags_json": ", ".join(json.dumps(flag) for flag in flags),
        "flags_compose": "".join(f"      - {flag}\n" for flag in flags),
        "flags_kubernetes": "".join(f"            - {flag}\n" for flag in flags),
    }
    rendered = {}
    for name in FILES:
        template = importlib.resources.files("serving").joinpath("templates", name).read_text("utf-8")
        rendered[name] = string.Template(template).substitute(values)
        if name.endswith(".config"):
            values[name.replace(".", "_")] = textwrap.indent(rendered[name], "    ")
    return rendered


def write_files(config: ServerConfig, directory: str | os.PathLike[str], *, force: bool = False) -> list[str]:
    """Writes all files of a deployment to a local directory; returns their paths.

    Raises:
        FileExistsError: if one is there and differs, without `force`. Nothing is written then.
    """
    directory = os.fspath(directory)
    rendered = render_files(config)
    paths = {name: os.path.join(directory, name) for name in rendered}
    if not force:
        changed = [path for name, path in paths.items() if os.path.exists(path) and _read(path) != rendered[name]]
        if changed:
            raise FileExistsError(
                f"{', '.join(changed)} would be overwritten. Choose another directory, or overwrite with --force."
            )
    os.makedirs(directory, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=directory, prefix=".configure-") as temporary:
        for name, text in rendered.items():
            with open(os.path.join(temporary, name), "w", encoding="utf-8") as file:
                file.write(text)
        for name, path in paths.items():
            shutil.move(os.path.join(temporary, name), path)
    return list(paths.values())


def _list_flags(config: ServerConfig) -> list[str]:
    return [
        "--port=8500",
        "--rest_api_port=8501",
        "--model_config_file=/config/models.config",
        "--model_config_file_poll_wait_seconds=60",
        # Labels and versions come in one file: without it a label could only name what is loaded already.
        "--allow_version_labels_for_unavailable_models=true",
        f"--enable_batching={str(config.use_batching).lower()}",
        *(["--batching_parameters_file=/config/batching.config"] if config.use_batching else []),
        "--monitoring_config_file=/config/monitoring.config",
    ]


def _format_versions(labels: Mapping[str, int]) -> str:
    """The part of models.config that says which versions are served, and their labels."""
    if not labels:
        return ""
    versions = " ".join(f"versions: {version}" for version in sorted(set(labels.values())))
    pairs = sorted(labels.items(), key=lambda item: (item[1], item[0] != "stable", item[0]))
    lines = [f"model_version_policy {{ specific {{ {versions} }} }}"]
    lines += [f'version_labels {{ key: "{label}" value: {version} }}' for label, version in pairs]
    return "".join(f"    {line}\n" for line in lines)


def _read(path: str) -> str:
    with open(path, encoding="utf-8") as file:
        return file.read()
