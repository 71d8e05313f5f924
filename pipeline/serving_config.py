"""The section `serving` of a configuration: how a model is exported, validated and pushed."""

import dataclasses
from typing import ClassVar

from pipeline.config_values import Section, did_you_mean
from pipeline.infra_validation import SETTINGS
from serving.configure import SERVING_VERSION

MAX_WARMUP_RECORDS = 1000  # as many as TF Serving reads
MAX_REFERENCE_ROWS = 10_000  # they are computed as one batch


@dataclasses.dataclass(frozen=True, kw_only=True)
class ServingConfig(Section):
    """How a model is exported, validated and pushed.

    Args:
        storage: how the exported tables are stored, one of keras_dimgrow's STORAGES: float32; float16 and int8 take a half
            and about a third of its bytes. A run prints what this costs in AUC and log loss.
        reference_rows: raw rows, and what Keras makes of them, that travel with the model for `python -m serving check`;
            0: none. They are rows of the data as they are.
        infra_validation: where InfraValidator runs the model in TF Serving before it is pushed: docker, kubernetes (inside
            Kubeflow), off, or auto: whichever of the two is there, in this order.
        image_tag: of the image tensorflow/serving that it runs.
        keep_versions: pushed versions that are kept, the newest ones; null: all.
        warmup_records: requests made of rows of the eval split, which each pushed version carries for TF Serving to answer
            at loading; 0: none. The rows lie in the model as they are.
    """

    section: ClassVar[str] = "serving"

    storage: str = "float32"
    reference_rows: int = 1000
    infra_validation: str = "auto"
    image_tag: str = SERVING_VERSION
    keep_versions: int | None = 5
    warmup_records: int = 50

    def __post_init__(self) -> None:
        # YAML 1.1 reads a bare off as false.
        if self.infra_validation is False:
            object.__setattr__(self, "infra_validation", "off")
        super().__post_init__()

    def _validate(self) -> None:
        self._require(
            "infra_validation",
            self.infra_validation in SETTINGS,
            f"one of {', '.join(SETTINGS)}",
            did_you_mean(self.infra_validation, SETTINGS).strip(),
        )
        self._require("keep_versions", self.keep_versions is None or self.keep_versions >= 1, ">= 1 or null")
        in_range = 0 <= self.reference_rows <= MAX_REFERENCE_ROWS
        self._require("reference_rows", in_range, f"from 0 to {MAX_REFERENCE_ROWS}")
        in_range = 0 <= self.warmup_records <= MAX_WARMUP_RECORDS
        self._require("warmup_records", in_range, f"from 0 to {MAX_WARMUP_RECORDS}")

    def check_storage(self) -> None:
        """Raises UserError if keras_dimgrow knows no such storage."""
        # Here, because the library imports TensorFlow, which reading a configuration should not wait for.
        from keras_dimgrow.storage import STORAGES

        hint = did_you_mean(self.storage, STORAGES).strip()
        self._require("storage", self.storage in STORAGES, f"one of {', '.join(STORAGES)}", hint)
