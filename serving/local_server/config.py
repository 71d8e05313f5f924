"""What a local server is told."""

import dataclasses
import os
from collections.abc import Mapping


@dataclasses.dataclass(frozen=True, kw_only=True)
class LocalServerConfig:
    """What to serve and where.

    Args:
        path: a SavedModel, or a directory of numbered versions.
        model_name: the name that requests give.
        host: the name or IPv4 address to listen on; the default is reachable from this machine only.
        port: of gRPC; 0 takes a free one.
        rest_port: of the REST API; 0 takes a free one.
        num_versions: how many of the newest versions are served.
        version_labels: {label: version}.
        poll_seconds: how often `path` is looked at for new versions (TF Serving's file_system_poll_wait_seconds).
        max_message_bytes: the largest request; larger ones get RESOURCE_EXHAUSTED (429).
        max_concurrent_requests: of gRPC and of REST, each; more get RESOURCE_EXHAUSTED (429).
        drain_seconds: how long requests in progress may take to end after a stop.

    Raises:
        ValueError: if a value is out of its range.
    """

    path: str | os.PathLike[str]
    model_name: str = "default"
    host: str = "127.0.0.1"
    port: int = 8500
    rest_port: int = 8501
    num_versions: int = 1
    version_labels: Mapping[str, int] = dataclasses.field(default_factory=dict)
    poll_seconds: float = 1.0
    max_message_bytes: int = 64 * 2**20
    max_concurrent_requests: int = 64
    drain_seconds: float = 10.0

    def __post_init__(self) -> None:
        for name in ("port", "rest_port"):
            if not 0 <= getattr(self, name) < 2**16:
                raise ValueError(f"{name} must be 0 (a free one) to 65535; received {getattr(self, name)}.")
        for name in ("num_versions", "poll_seconds", "max_message_bytes", "max_concurrent_requests"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be > 0; received {getattr(self, name)}.")
        if not self.host or ":" in self.host:
            raise ValueError(f"host must be a name or an IPv4 address, without a port; received {self.host!r}.")
        if not self.model_name or set(self.model_name) & set("/:"):
            raise ValueError(f"model_name must be text without '/' and ':'; received {self.model_name!r}.")
