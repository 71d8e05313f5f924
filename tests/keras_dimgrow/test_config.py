"""Configuration records: JSON in and out, and errors that name key, value and cure."""

import dataclasses
import json

import pytest

from keras_dimgrow import DimGrowPaperConfig, GateConfig, GrowthConfig, ModelConfig, TrainingConfig

CONFIGS = [
    GateConfig(penalty=1e-3, shuffle="permutation"),
    GrowthConfig(max_total_dims=40, max_parameters=None),
    ModelConfig(hidden_units=(8, 4), dropout=0.1),
    DimGrowPaperConfig(max_steps=70, gate=GateConfig(temperature=2.0), growth=GrowthConfig(max_parameters=10**7)),
    TrainingConfig(max_epochs=3),
]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: type(c).__name__)
def test_a_config_is_equal_after_a_round_trip_through_json(config):
    assert type(config).from_json(config.to_json()) == config


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: type(c).__name__)
def test_json_has_sorted_keys_and_plain_types(config):
    text = config.to_json()

    assert text == json.dumps(json.loads(text), sort_keys=True)


def test_a_partial_mapping_keeps_the_defaults_of_the_rest():
    config = DimGrowPaperConfig.from_dict({"max_steps": 10, "growth": {"max_total_dims": 8}})

    assert config == DimGrowPaperConfig(max_steps=10, growth=GrowthConfig(max_total_dims=8))


def test_a_nested_config_object_is_taken_as_it_is():
    gate = GateConfig(penalty=0.5)

    assert DimGrowPaperConfig.from_dict({"gate": gate}).gate is gate


def test_a_config_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        DimGrowPaperConfig().max_steps = 3


def test_a_config_takes_keywords_only():
    with pytest.raises(TypeError):
        TrainingConfig(3)


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        (
            DimGrowPaperConfig,
            {"max_step": 1},
            r"DimGrowPaperConfig: unknown key 'max_step'. Did you mean 'max_steps'\?",
        ),
        (DimGrowPaperConfig, {"gate": {"penalti": 1}}, r"GateConfig: unknown key 'penalti'. Did you mean 'penalty'\?"),
        (DimGrowPaperConfig, {"xyz": 1}, r"unknown key 'xyz'. Known keys: check_every, checkpoint_every, gate, growth"),
        (
            DimGrowPaperConfig,
            {"gate": None},
            r"DimGrowPaperConfig: gate must be a mapping of settings; received gate=None",
        ),
        (
            DimGrowPaperConfig,
            {"growth": 3},
            r"DimGrowPaperConfig: growth must be a mapping of settings; received growth=3",
        ),
        (DimGrowPaperConfig, {"max_steps": 0}, r"max_steps must be an integer >= 1; received max_steps=0"),
        (DimGrowPaperConfig, {"max_steps": 1.5}, r"max_steps must be an integer >= 1; received max_steps=1.5"),
        (DimGrowPaperConfig, {"max_steps": True}, r"max_steps must be an integer >= 1; received max_steps=True"),
        (DimGrowPaperConfig, {"learning_rate": 0}, r"learning_rate must be a number > 0.0; received learning_rate=0"),
        (DimGrowPaperConfig, {"learning_rate": float("nan")}, r"learning_rate must be a number > 0.0"),
        (DimGrowPaperConfig, {"checkpoint_every": 75}, r"checkpoint_every must be a multiple of check_every=50"),
        (TrainingConfig, {"max_epochs": "3"}, r"max_epochs must be an integer >= 1; received max_epochs='3'"),
        (TrainingConfig, {"patience_epochs": 0}, r"patience_epochs must be an integer >= 1"),
        (GateConfig, {"penalty": -1e-4}, r"penalty must be a number >= 0.0; received penalty=-0.0001"),
        (GateConfig, {"temperature": 0}, r"temperature must be a number > 0.0"),
        (GateConfig, {"shuffle": "riffle"}, r"shuffle must be one of \['cyclic', 'permutation'\]; received"),
        (GrowthConfig, {"grow_threshold": 0.4}, r"grow_threshold must be a number >= 0.5 and <= 1.0"),
        (GrowthConfig, {"shrink_threshold": 0.6}, r"shrink_threshold must be a number >= 0.0 and <= 0.5"),
        (GrowthConfig, {"max_total_dims": 0}, r"max_total_dims must be an integer >= 1 or None"),
        (GrowthConfig, {"revive_after_checks": 0}, r"revive_after_checks must be an integer >= 1"),
        (ModelConfig, {"hidden_units": []}, r"hidden_units must be a non-empty list of positive integers"),
        (ModelConfig, {"hidden_units": [8, 0]}, r"hidden_units must be a non-empty list of positive integers"),
        (ModelConfig, {"hidden_units": 8}, r"hidden_units must be a non-empty list of positive integers"),
        (ModelConfig, {"dropout": 1.0}, r"dropout must be a number >= 0.0 and <= 0.99"),
        (ModelConfig, {"adapter_width": 0}, r"adapter_width must be an integer >= 1"),
    ],
)
def test_a_wrong_setting_is_named_with_its_value_and_its_cure(kind, values, message):
    with pytest.raises(ValueError, match=message):
        kind.from_dict(values)
