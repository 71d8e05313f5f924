"""The real TensorFlow Serving, where its binary is there, with the settings of a local server."""

import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping

from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from serving.local_server.config import LocalServerConfig

_BINARY = "tensorflow_model_server"


def find_real_server(environment: Mapping[str, str] = os.environ) -> str | None:
    """The path of tensorflow_model_server: TF_SERVING_BINARY if that is set, else what PATH has, else None.

    Raises:
        FileNotFoundError: if TF_SERVING_BINARY names no program.
    """
    named = environment.get("TF_SERVING_BINARY")
    if not named:
        return shutil.which(_BINARY, path=environment.get("PATH"))
    found = shutil.which(named)
    if not found:
        raise FileNotFoundError(f"TF_SERVING_BINARY names {named!r}, which is no program. Correct or unset it.")
    return found


class RealServer:
    """tensorflow_model_server as a process; use it as a context manager.

    It listens on all addresses (it has no option for one) and has no limit of concurrent requests; ports must not be 0.

    Args:
        binary: the program.
        config: what to serve and where.
    """

    def __init__(self, binary: str, config: LocalServerConfig):
        if 0 in (config.port, config.rest_port):
            raise ValueError("tensorflow_model_server cannot choose a free port itself; give --port and --rest-port.")
        self._directory = tempfile.TemporaryDirectory(prefix="serving-local-")
        self._command = [binary, *_make_arguments(config, pathlib.Path(self._directory.name))]
        self._drain_seconds = config.drain_seconds
        self.process: subprocess.Popen | None = None
        self.grpc_url = f"grpc://127.0.0.1:{config.port}"
        self.rest_url = f"http://127.0.0.1:{config.rest_port}"

    def __enter__(self) -> "RealServer":
        # Its own group: a Ctrl-C reaches this process, which then stops it in an orderly way.
        self.process = subprocess.Popen(self._command, start_new_session=True)
        return self

    def __exit__(self, *exc_info) -> None:
        """Asks it to end, and ends it after `drain_seconds`."""
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(self._drain_seconds)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self._directory.cleanup()


def _make_arguments(config: LocalServerConfig, directory: pathlib.Path) -> list[str]:
    (directory / "models.config").write_text(text_format.MessageToString(_make_model_config(config, directory)))
    return [
        f"--port={config.port}",
        f"--rest_api_port={config.rest_port}",
        f"--model_config_file={directory / 'models.config'}",
        f"--file_system_poll_wait_seconds={max(1, round(config.poll_seconds))}",
        # Labels are known before their versions are loaded.
        "--allow_version_labels_for_unavailable_models=true",
        f"--grpc_channel_arguments=grpc.max_receive_message_length={config.max_message_bytes}",
    ]


def _make_model_config(config: LocalServerConfig, directory: pathlib.Path) -> model_server_config_pb2.ModelServerConfig:
    path = os.fspath(config.path).rstrip("/")
    if os.path.exists(os.path.join(path, "saved_model.pb")):
        # It only takes directories of numbered versions: one is made, of a link.
        number = os.path.basename(os.path.abspath(path))
        versions = directory / "versions"
        versions.mkdir()
        (versions / (number if number.isdecimal() else "1")).symlink_to(os.path.abspath(path))
        path = str(versions)
    servers = model_server_config_pb2.ModelServerConfig()
    model = servers.model_config_list.config.add(
        name=config.model_name,
        base_path=path if "://" in path else os.path.abspath(path),
        model_platform="tensorflow",
    )
    model.model_version_policy.latest.num_versions = config.num_versions
    for label, version in config.version_labels.items():
        model.version_labels[label] = version
    return servers
