"""What a configuration file may say, and how a mistake in it is reported."""

import dataclasses

import pytest

from pipeline.config import PipelineConfig, list_configs, load_config
from pipeline.config_values import parse_yaml, to_yaml_text
from pipeline.errors import UserError

MINIMAL = """
name: shop
data: {reader: csv, path: shop.csv, label: bought}
features: {categorical: [colour, city], integer: [age]}
"""


@pytest.fixture
def config_file(tmp_path):
    def write(text: str = MINIMAL) -> str:
        path = tmp_path / "shop.yaml"
        path.write_text(text, "utf-8")
        return str(path)

    return write


@pytest.mark.parametrize("name", list_configs())
def test_every_shipped_config_loads_and_survives_a_round_trip(name):
    config = load_config(name, data_path="somewhere")
    assert config.name == name
    assert config.data.path == "somewhere"
    assert PipelineConfig.from_dict(config.to_dict()) == config


def test_shipped_configs_are_those_of_the_readers():
    assert list_configs() == ["adult", "avazu", "criteo", "taxi"]


def test_only_the_shipped_sample_needs_no_path():
    assert load_config("adult").data.path is None
    with pytest.raises(UserError, match=r"data\.path must be given for 'taxi' data; received None.*--data PATH"):
        load_config("taxi")


def test_taxi_never_shows_the_tips_to_the_model():
    assert "tips" not in load_config("taxi", data_path="x").features.columns


def test_defaults_fill_what_a_file_does_not_say(config_file):
    config = load_config(config_file())
    assert (config.split.train, config.split.eval, config.split.test) == (8, 1, 1)
    assert config.features.columns == ("colour", "city", "age")
    assert config.features.min_frequency == 1
    assert config.compare_with_uniform
    assert (config.uniform_dimension, config.seed) == (16, 0)
    assert (config.search.method, config.search.parameter_budget, config.search.settings) == ("dimgrow", None, {})
    assert config.training == {}


def test_a_config_is_frozen(config_file):
    with pytest.raises(dataclasses.FrozenInstanceError):
        load_config(config_file()).name = "other"  # type: ignore[misc]


def test_overrides_are_read_as_yaml_and_reach_into_sections(config_file):
    overrides = [
        "features.min_frequency=5",
        "features.numeric=[price, weight]",
        "evaluation.min_auc=1",
        "compare_with_uniform=false",
        "search.method=dimgrow_paper",
        "search.settings.learning_rate=1e-3",
        "search.settings.growth.alpha=2",
        "search.parameter_budget=0.2",
        "data.positive_value=>50K",
    ]
    config = load_config(config_file(), overrides)
    assert config.features.min_frequency == 5
    assert config.features.numeric == ("price", "weight")
    assert config.evaluation.min_auc == 1.0
    assert isinstance(config.evaluation.min_auc, float)
    assert not config.compare_with_uniform
    assert config.search.to_dict() == {
        "method": "dimgrow_paper",
        "parameter_budget": 0.2,
        "trials": [],
        "settings": {"learning_rate": 0.001, "growth": {"alpha": 2}},
    }
    assert config.data.positive_value == ">50K"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("serach.max_steps=1", r"unknown key 'serach'\. Did you mean 'search'\? Keys at the top: name, data"),
        ("features.min_frequancy=1", r"unknown key 'features\.min_frequancy'\. Did you mean 'min_frequency'"),
        ("data.colour=1", r"unknown key 'data\.colour'\. Keys in section 'data': reader, path"),
        ("features.min_frequency=many", r"features\.min_frequency must be a whole number; received 'many' of type str"),
        ("features.min_frequency=2.5", r"features\.min_frequency must be a whole number; received 2\.5 of type float"),
        ("features.min_frequency=true", r"features\.min_frequency must be a whole number; received True of type bool"),
        ("features.min_frequency=0", r"features\.min_frequency must be >= 1; received 0"),
        ("features.num_quantiles=1", r"features\.num_quantiles must be >= 2; received 1"),
        ("features.categorical=colour", r"features\.categorical must be a list of texts"),
        ("features.categorical=[colour, 3]", r'features\.categorical\[1\] must be text; received 3 .*in quotes: "3"'),
        ("features.numeric=[age]", r"'age' is given twice, in features\.integer and features\.numeric"),
        ("features.integer=[age, age]", r"'age' is given twice, in features\.integer\."),
        ("features.integer=['a,b']", r"features\.integer: column names must not .* received 'a,b'"),
        ("features.integer=[bought]", r"the label 'bought' \(data\.label\) is also a feature"),
        ("features={}", r"no features: name at least one column"),
        (
            "data.positive_value=yes",
            r'data\.positive_value must be text; received True of type bool.*in quotes: "True"',
        ),
        ("data.label=null", r"data\.label must be text; received None of type NoneType"),
        ("data.reader=csvs", r"data\.reader must be one of adult, .*; received 'csvs'\. Did you mean 'csv'"),
        ("data.path=''", r"data\.path must be a path; received ''"),
        ("data.path.folder=x", r"'data\.path\.folder' does not exist: 'data\.path' is the value 'shop\.csv'"),
        ("data=csv", r"data must be a mapping of names to values; received 'csv' of type str"),
        ("split.eval=0", r"split\.eval must be >= 1; received 0"),
        ("evaluation.min_auc=1.5", r"evaluation\.min_auc must be from 0 to 1; received 1\.5"),
        ("evaluation.max_auc_drop=.nan", r"evaluation\.max_auc_drop must be a number; received nan"),
        ("name=My Shop", r"name must be .*lower case.*; received 'My Shop'"),
        ("uniform_dimension=0", r"uniform_dimension must be >= 1; received 0"),
        ("seed=-1", r"seed must be from 0 to .*; received -1"),
        ("search=3", r"search must be a mapping"),
        ("search.metod=uniform", r"unknown key 'search\.metod'\. Did you mean 'method'"),
        ("search.max_steps=10", r"unknown key 'search\.max_steps'.* below 'settings': search\.settings\.max_steps"),
        ("search.growth.alpha=2", r"search\.settings\.growth\. 'growth' is a setting of search\.method=dimgrow_paper"),
        ("search.parameter_budget=1", r"parameter_budget=1 is one embedding parameter.* Write 1\.0"),
        ("search.parameter_budget=true", r"must be a number or a whole number or text; received True"),
        ("min_frequency", r"--set 'min_frequency' must have the form key=value"),
        ("a..b=1", r"--set 'a\.\.b=1' must have the form key=value"),
    ],
)
def test_a_wrong_setting_is_reported_with_file_key_and_value(config_file, override, message):
    path = config_file()
    with pytest.raises(UserError, match=message) as error:
        load_config(path, [override])
    assert path in str(error.value)
    assert override in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must hold keys and values"),
        ("[1, 2]", "must hold keys and values"),
        ("name: [", "not valid YAML"),
        (MINIMAL + "name: twice", "key 'name' is given twice"),
        (MINIMAL.replace("name: shop", ""), "key 'name' is missing"),
        (MINIMAL.replace(", label: bought", ""), r"key 'data\.label' is missing"),
    ],
)
def test_a_broken_file_is_reported_with_its_name(config_file, text, message):
    path = config_file(text)
    with pytest.raises(UserError, match=message) as error:
        load_config(path)
    assert path in str(error.value)


def test_an_unknown_name_is_answered_with_the_nearest_config():
    with pytest.raises(UserError, match=r"adlut: no shipped configuration.*Did you mean 'adult'"):
        load_config("adlut")


def test_a_directory_or_binary_file_is_no_configuration(tmp_path):
    with pytest.raises(UserError, match="cannot be read"):
        load_config(str(tmp_path))
    (tmp_path / "x.yaml").write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match="not UTF-8"):
        load_config(str(tmp_path / "x.yaml"))


@pytest.mark.parametrize(
    ("budget", "value"),
    [("0.2", 0.2), ("1.0", 1.0), ("2000000", 2_000_000), ("64MB", "64MB"), ("null", None)],
)
def test_a_budget_keeps_the_kind_that_says_what_it_means(config_file, budget, value):
    config = load_config(config_file(), [f"search.parameter_budget={budget}"])
    assert config.search.parameter_budget == value
    assert type(config.search.parameter_budget) is type(value)
    assert PipelineConfig.from_dict(config.to_dict()) == config
    config.make_library_configs()


def test_the_settings_of_the_search_are_those_of_its_method(config_file):
    import keras_dimgrow as kd

    default, _, _ = load_config(config_file()).make_library_configs()
    looks, _, _ = load_config(config_file(), ["search.settings.num_looks=3"]).make_library_configs()
    paper = ["search.method=dimgrow_paper", "search.settings.max_steps=10"]
    assert default == kd.DimGrowConfig()
    assert looks == kd.DimGrowConfig(num_looks=3)
    assert load_config(config_file(), paper).make_library_configs()[0] == kd.DimGrowPaperConfig(max_steps=10)


@pytest.mark.parametrize("name", list_configs())
def test_every_shipped_config_is_one_that_the_library_takes(name):
    import keras_dimgrow as kd

    search, training, model = load_config(name, data_path="somewhere").make_library_configs()
    assert isinstance(search, kd.DimGrowConfig)
    assert isinstance(training, kd.TrainingConfig)
    assert isinstance(model, kd.ModelConfig)


@pytest.mark.parametrize(("text", "meaning"), [("off", "off"), ("auto", "auto"), ("docker", "docker")])
def test_infra_validation_may_be_off_though_yaml_takes_that_for_false(config_file, text, meaning):
    assert (
        load_config(config_file(MINIMAL + f"serving: {{infra_validation: {text}}}\n")).serving.infra_validation
        == meaning
    )
    overridden = load_config(config_file(), [f"serving.infra_validation={text}"])
    assert overridden.serving.infra_validation == meaning
    assert PipelineConfig.from_dict(overridden.to_dict()) == overridden


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("serving.infra_validation=dokcer", r"must be one of auto, docker, kubernetes, off.*Did you mean 'docker'"),
        ("serving.keep_versions=0", r"serving\.keep_versions must be >= 1 or null; received 0"),
        ("serving.reference_rows=-1", r"serving\.reference_rows must be from 0 to 10000; received -1"),
        ("serving.warmup_records=1001", r"serving\.warmup_records must be from 0 to 1000; received 1001"),
    ],
)
def test_serving_settings_out_of_range_are_rejected(config_file, override, message):
    with pytest.raises(UserError, match=message):
        load_config(config_file(), [override])


def test_a_storage_that_the_library_does_not_know_is_rejected_with_its_settings(config_file):
    config = load_config(config_file(), ["serving.storage=int4"])
    message = r"serving\.storage must be one of float32, float16, int8; received 'int4'\. Did you mean 'int8'"
    with pytest.raises(UserError, match=message):
        config.make_library_configs()


def test_an_empty_section_means_its_defaults(config_file):
    assert load_config(config_file(MINIMAL + "search:\nsplit:\n")).split.train == 8


@pytest.mark.parametrize(
    "text", ["plain", "with space", "yes", "1", "1e-3", "", " x", "a: b", "#", "ä\n\u2028\U0001f600"]
)
def test_any_text_survives_as_a_yaml_scalar(text):
    assert parse_yaml(f"- {to_yaml_text(text)}") == [text]


def test_a_warm_start_is_one_of_three_and_none_by_default(config_file):
    assert load_config(config_file()).warm_start == "none"
    assert load_config(config_file(), ["warm_start=weights"]).warm_start == "weights"
    with pytest.raises(
        UserError, match=r"warm_start must be one of none, plan, weights; received 'weigths'.*'weights'"
    ):
        load_config(config_file(), ["warm_start=weigths"])
    with pytest.raises(UserError, match=r"whose rows are in chunks, are trained from the start\. Set warm_start: plan"):
        load_config(config_file(), ["warm_start=weights", "search.method=fiited"])
