"""The section `beam` of a configuration: where the nodes that run on Apache Beam run it."""

import dataclasses
from typing import ClassVar

from pipeline.beam_options import BEAM_PROFILES
from pipeline.config_values import Section, did_you_mean


@dataclasses.dataclass(frozen=True, kw_only=True)
class BeamConfig(Section):
    """Where ExampleGen, StatisticsGen, Transform and Evaluator run Beam.

    Args:
        profile: local (in the node's own process), dataflow, flink or spark; see `pipeline.beam_options`.
        args: more of Beam's flags, such as "--region=us-central1"; checked before anything runs.
    """

    section: ClassVar[str] = "beam"

    profile: str = "local"
    args: tuple[str, ...] = ()

    def _validate(self) -> None:
        self._require(
            "profile",
            self.profile in BEAM_PROFILES,
            f"one of {', '.join(BEAM_PROFILES)}",
            did_you_mean(self.profile, BEAM_PROFILES).strip(),
        )
