"""Whom a client asks, and how patiently."""

import dataclasses


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelChoice:
    """A model on a server: its newest version, unless a version or a label is given.

    Raises:
        ValueError: if both are given.
    """

    name: str = "default"
    version: int | None = None
    label: str | None = None

    def __post_init__(self) -> None:
        if self.version is not None and self.label is not None:
            raise ValueError(f"Give a version or a label, not both; received {self.version} and {self.label!r}.")

    def __str__(self) -> str:
        suffix = f" version {self.version}" if self.version is not None else ""
        return f"model {self.name!r}{suffix}" + (f" label {self.label!r}" if self.label is not None else "")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClientOptions:
    """How a client asks.

    Args:
        timeout_s: of one attempt.
        num_attempts: in all, if the server is UNAVAILABLE (HTTP 503, or no connection); other errors are final.
        backoff_s: the wait before the second attempt; it doubles with each further one, up to 5 s.
        batch_rows: the most rows of one request.

    Raises:
        ValueError: if one is not positive.
    """

    timeout_s: float = 10.0
    num_attempts: int = 4
    backoff_s: float = 0.2
    batch_rows: int = 1024

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            if not getattr(self, field.name) > 0:
                raise ValueError(f"{field.name} must be > 0; received {getattr(self, field.name)}.")
