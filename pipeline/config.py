"""The pipeline's configuration: what a YAML file may say, with every default, and how it is read."""

import dataclasses
import importlib.resources
import os
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import yaml

from pipeline.beam_config import BeamConfig
from pipeline.cluster_config import ClusterConfig
from pipeline.config_values import Section, apply_override, did_you_mean, parse_yaml, set_key
from pipeline.errors import UserError
from pipeline.search_config import SearchConfig
from pipeline.serving_config import ServingConfig
from serving.names import name_inputs

if TYPE_CHECKING:
    from keras_dimgrow import ModelConfig, TrainingConfig
    from keras_dimgrow.config import Config

CHUNKED_METHODS = ("adaembed", "fiited")
WARM_STARTS = ("none", "plan", "weights")
READERS = ("adult", "taxi", "criteo", "avazu", "csv", "tfrecord")


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataConfig(Section):
    """Where the rows come from and what is predicted.

    Args:
        reader: the format of the data, one of READERS.
        path: the user's own file, plain, .gz or .zst, relative to the current directory or remote (gs://...); for criteo and
            avazu it may be a pattern of several files, for tfrecord a directory or a pattern. None, for adult only: the sample
            that is shipped.
        label: column that is predicted.
        positive_value: raw value of the label that counts as 1, every other value counts as 0. None: the label is 0/1.
        on_bad_rows: fail, at the first row that cannot be read; or skip such rows, which are counted in the results. Files that
            are broken are always an error.
    """

    section: ClassVar[str] = "data"

    reader: str
    path: str | None = None
    label: str
    positive_value: str | None = None
    on_bad_rows: str = "fail"

    def _validate(self) -> None:
        self._require("reader", self.reader in READERS, f"one of {', '.join(READERS)}", _nearest(self.reader, READERS))
        _check_column(self.label, "data.label")
        policies = ("fail", "skip")
        hint = _nearest(self.on_bad_rows, policies)
        self._require("on_bad_rows", self.on_bad_rows in policies, f"one of {', '.join(policies)}", hint)
        skips_records = self.on_bad_rows == "skip" and self.reader == "tfrecord"
        self._require("on_bad_rows", not skips_records, "fail for TFRecords", "What follows a broken record is lost.")
        cure = "Give the file's path: --data PATH, or data.path in the configuration."
        self._require("path", self.path != "", "a path", cure)
        self._require("path", self.path is not None or self.reader == "adult", f"given for {self.reader!r} data", cure)


@dataclasses.dataclass(frozen=True, kw_only=True)
class FeaturesConfig(Section):
    """Which columns the model sees, and as what; each becomes one field of the embedding.

    Args:
        categorical: columns whose values are categories as they stand.
        integer: columns of counts and the like, put into floor(log^2) buckets.
        numeric: columns of real numbers, put into quantile buckets.
        min_frequency: a category seen in fewer rows than this shares the out-of-vocabulary id.
        num_quantiles: buckets of each numeric column.
    """

    section: ClassVar[str] = "features"

    categorical: tuple[str, ...] = ()
    integer: tuple[str, ...] = ()
    numeric: tuple[str, ...] = ()
    min_frequency: int = 1
    num_quantiles: int = 10

    @property
    def columns(self) -> tuple[str, ...]:
        """All columns: categorical, then integer, then numeric."""
        return self.categorical + self.integer + self.numeric

    def _validate(self) -> None:
        self._require("min_frequency", self.min_frequency >= 1, ">= 1")
        self._require("num_quantiles", self.num_quantiles >= 2, ">= 2")
        kinds: dict[str, str] = {}
        for kind in ("categorical", "integer", "numeric"):
            for column in getattr(self, kind):
                _check_column(column, f"features.{kind}")
                if column in kinds:
                    other = (
                        f"features.{kinds[column]} and features.{kind}" if kinds[column] != kind else f"features.{kind}"
                    )
                    raise UserError(f"column {column!r} is given twice, in {other}. Name it once.")
                kinds[column] = kind
        try:
            name_inputs(self.columns)
        except ValueError as error:
            raise UserError(f"features: {error}") from error
        if not kinds:
            raise UserError("no features: name at least one column in features.categorical, .integer or .numeric.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class SplitConfig(Section):
    """Hash buckets of each split: rows are divided in the proportion train : eval : test."""

    section: ClassVar[str] = "split"

    train: int = 8
    eval: int = 1
    test: int = 1

    def _validate(self) -> None:
        for name in ("train", "eval", "test"):
            self._require(name, getattr(self, name) >= 1, ">= 1", "Each split needs rows.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluationConfig(Section):
    """What a model must reach to be blessed.

    Args:
        min_auc: lowest AUC on the test split.
        max_auc_drop: how far the AUC may fall below that of the latest blessed model.
    """

    section: ClassVar[str] = "evaluation"

    min_auc: float = 0.5
    max_auc_drop: float = 0.005

    def _validate(self) -> None:
        self._require("min_auc", 0.0 <= self.min_auc <= 1.0, "from 0 to 1")
        self._require("max_auc_drop", 0.0 <= self.max_auc_drop <= 1.0, "from 0 to 1")


@dataclasses.dataclass(frozen=True, kw_only=True)
class PipelineConfig(Section):
    """Everything that a run needs to know.

    Args:
        name: the pipeline's name: lower case letters, digits and hyphens, a letter first (what Vertex AI accepts).
        data, features, split, search, evaluation, serving, beam, cluster: see their classes.
        training: settings of keras_dimgrow's TrainingConfig, as a plain mapping; see `make_library_configs`.
        model: the same for ModelConfig.
        batch_size: rows per training step, in the search and in the trainings; null: as `keras_dimgrow.choose_batch_size` has
            it for the rows of the train split.
        compare_with_uniform: also train the same model with the same dimension for all fields.
        uniform_dimension: that dimension.
        seed: of the search and of the trainings.
        warm_start: what a run takes over from the last blessed model, if there is one. none: nothing. plan: the ids of values,
            and its plan, which the search starts from. weights: these, and its weights, which the training starts from.
    """

    name: str
    data: DataConfig
    features: FeaturesConfig
    split: SplitConfig = SplitConfig()
    search: SearchConfig = dataclasses.field(default_factory=SearchConfig)
    training: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    model: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    batch_size: int | None = None
    evaluation: EvaluationConfig = EvaluationConfig()
    serving: ServingConfig = dataclasses.field(default_factory=ServingConfig)
    beam: BeamConfig = dataclasses.field(default_factory=BeamConfig)
    cluster: ClusterConfig = dataclasses.field(default_factory=ClusterConfig)
    compare_with_uniform: bool = True
    uniform_dimension: int = 16
    seed: int = 0
    warm_start: str = "none"

    def _validate(self) -> None:
        is_name = re.fullmatch(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?", self.name) is not None
        self._require(
            "name", is_name, "at most 63 lower case letters, digits and hyphens, a letter first, no hyphen last"
        )
        self._require("batch_size", self.batch_size is None or self.batch_size >= 2, ">= 2 or null")
        self._require("uniform_dimension", self.uniform_dimension >= 1, ">= 1")
        self._require("seed", 0 <= self.seed < 2**31, "from 0 to 2**31 - 1")
        self._require(
            "warm_start",
            self.warm_start in WARM_STARTS,
            f"one of {', '.join(WARM_STARTS)}",
            _nearest(self.warm_start, WARM_STARTS),
        )
        if self.warm_start == "weights" and self.search.method in CHUNKED_METHODS:
            raise UserError(
                f"warm_start: weights: models of search.method {self.search.method}, whose rows are in chunks, are trained "
                "from the start. Set warm_start: plan, which keeps the ids of values, or another method."
            )
        if self.data.label in self.features.columns:
            raise UserError(
                f"the label {self.data.label!r} (data.label) is also a feature: the model would see what it must "
                "predict. Remove it from features."
            )

    def make_library_configs(self) -> "tuple[Config, TrainingConfig, ModelConfig]":
        """keras_dimgrow's configurations, from the sections search (its method's), training and model.

        Raises:
            UserError: for a key or value that they reject, serving.storage included, or a budget that gives some field no
                dimension at all.
        """
        # Here, because the library imports TensorFlow, which reading a configuration should not wait for.
        from keras_dimgrow import DimGrowPaperConfig, ModelConfig, TrainingConfig

        def make(section: str, kind):
            try:
                return kind.from_dict(getattr(self, section))
            except ValueError as error:
                raise UserError(f"section {section!r}: {error}") from error

        self.serving.check_storage()
        search, num_fields = self.search.make(), len(self.features.columns)
        max_dims = search.growth.max_total_dims if isinstance(search, DimGrowPaperConfig) else None
        if max_dims is not None and max_dims < num_fields:
            raise UserError(
                f"search.settings.growth.max_total_dims={max_dims} is below one dimension for each of the {num_fields} "
                f"fields. Raise it to at least {num_fields}, or remove columns from features."
            )
        return search, make("training", TrainingConfig), make("model", ModelConfig)


def load_config(name_or_path: str, overrides: Sequence[str] = (), data_path: str | None = None) -> PipelineConfig:
    """Reads a configuration.

    Args:
        name_or_path: name of a shipped configuration (see `list_configs`) or path of a YAML file.
        overrides: settings 'a.b=value' that replace the file's; the value is read as YAML,
            or as text if it is none.
        data_path: replaces data.path.

    Raises:
        UserError: if the file is missing or no YAML, or says something that is not allowed.
    """
    text = _read_text(name_or_path)
    try:
        values = parse_yaml(text)
    except yaml.YAMLError as error:
        raise UserError(f"{name_or_path}: not valid YAML: {error}") from error
    if not isinstance(values, dict):
        raise UserError(f"{name_or_path}: must hold keys and values (name, data, features, ...); received {values!r}.")
    given = [f"--set {override}" for override in overrides]
    place = f"{name_or_path} (with {' '.join(given)})" if given else name_or_path
    try:
        for override in overrides:
            apply_override(values, override)
        if data_path is not None:
            set_key(values, "data.path", data_path)
        return PipelineConfig.from_dict(values)
    except UserError as error:
        raise UserError(f"{place}: {error}") from error


def list_configs() -> list[str]:
    """Names of the shipped configurations."""
    files = importlib.resources.files("pipeline").joinpath("configs").iterdir()
    return sorted(file.name.removesuffix(".yaml") for file in files if file.name.endswith(".yaml"))


def _read_text(name_or_path: str) -> str:
    if name_or_path in list_configs():
        return importlib.resources.files("pipeline").joinpath("configs", f"{name_or_path}.yaml").read_text("utf-8")
    try:
        with open(os.path.expanduser(name_or_path), encoding="utf-8") as file:
            return file.read()
    except FileNotFoundError as error:
        known = f"Shipped configurations: {', '.join(list_configs())}."
        hint = did_you_mean(name_or_path, list_configs())
        message = f"{name_or_path}: no shipped configuration and no file of this name.{hint} {known}"
        raise UserError(f"{message} For your own data: python -m pipeline init --help.") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{name_or_path}: not UTF-8 text ({error}). A configuration is a YAML file.") from error
    except OSError as error:
        raise UserError(f"{name_or_path}: cannot be read: {error.strerror}.") from error


def is_column_name(name: str) -> bool:
    """Whether a column of this name can be configured: TFX splits a CSV's header at commas without regard to quotes."""
    return bool(name) and name == name.strip() and not re.search(r'[,"\r\n]', name)


def _check_column(column: str, key: str) -> None:
    if not is_column_name(column):
        rule = "not be empty, nor begin or end with a space, nor contain commas, quotes or line breaks"
        raise UserError(f"{key}: column names must {rule}; received {column!r}. Rename the column.")


def _nearest(name: str, known: Sequence[str]) -> str:
    return did_you_mean(name, known).strip()
