"""What is kept of a model for the next run, and what the next run makes of it."""

import numpy as np
import pytest

from keras_dimgrow import EmbeddingPlan, Field, ModelConfig, PlannedEmbedding, build_model
from pipeline.earlier_model import directory_of, load_grown_model, vocabularies_of, write_continuation

CITIES, HOURS = ["<missing>", "Rome", "Oslo", "Bern"], ["<missing>", "am", "pm"]
SETTINGS = ModelConfig(adapter_width=4, hidden_units=(4,))
CITY = "city/of birth %"  # any name is one of a file


def write_vocabularies(directory, cities, hours=HOURS) -> dict[str, str]:
    directory.mkdir(parents=True)
    paths = {CITY: directory / "000_city", "hour": directory / "001_hour"}
    for path, values in zip(paths.values(), (cities, hours), strict=True):
        path.write_text("".join(f"{value}\n" for value in values))
    return {name: str(path) for name, path in paths.items()}


@pytest.fixture
def earlier(tmp_path):
    """(directory of what is kept, the model): ids of missing, of the values, and last of unknown ones."""
    fields = [Field(name=CITY, vocabulary_size=len(CITIES) + 1), Field(name="hour", vocabulary_size=len(HOURS) + 1)]
    plan = EmbeddingPlan.from_dimensions(fields, {CITY: 3, "hour": 2})
    model = build_model(PlannedEmbedding(plan, 4, seed=0), SETTINGS, 0)
    directory = directory_of(str(tmp_path / "model" / "Format-Serving"))
    write_continuation(directory, model, SETTINGS, write_vocabularies(tmp_path / "before", CITIES))
    return directory, model


def test_each_value_keeps_its_vector_and_so_does_the_unknown_one_whose_id_moves(earlier, tmp_path):
    directory, model = earlier
    now = write_vocabularies(tmp_path / "now", [*CITIES, "Lima", "Kyiv"])

    grown, num_new = load_grown_model(directory, SETTINGS, now)

    before, after = (each.embedding.tables_by_field() for each in (model, grown))
    assert num_new == {CITY: 2, "hour": 0}
    assert after[CITY].shape == (7, 3)
    np.testing.assert_array_equal(after[CITY][[0, 1, 2, 3, 6]], before[CITY])
    np.testing.assert_array_equal(after["hour"], before["hour"])
    old = {CITY: np.array([0, 3, 4]), "hour": np.array([1, 2, 3])}
    np.testing.assert_array_equal(grown(old | {CITY: np.array([0, 3, 6])}), model(old))


def test_what_is_kept_lies_beside_the_export_and_has_a_vocabulary_for_each_column(earlier, tmp_path):
    directory, _ = earlier

    assert directory == str(tmp_path / "model" / "continuation")
    assert set(vocabularies_of(directory)) == {CITY, "hour"}


def test_a_vocabulary_that_does_not_go_on_is_refused(earlier, tmp_path):
    now = write_vocabularies(tmp_path / "now", ["<missing>", "Oslo", "Rome", "Bern", "Lima"])

    with pytest.raises(ValueError, match=rf"{CITY}.*does not begin with that of the last blessed model"):
        load_grown_model(earlier[0], SETTINGS, now)


def test_another_backbone_is_refused_and_the_cure_is_named(earlier, tmp_path):
    now = write_vocabularies(tmp_path / "now", CITIES)

    with pytest.raises(ValueError, match=r"hidden_units=\(4,\).*; received .*hidden_units=\(8,\).*warm_start: plan"):
        load_grown_model(earlier[0], ModelConfig(adapter_width=4, hidden_units=(8,)), now)


def test_a_model_that_kept_no_vocabularies_is_refused_and_the_cure_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"has no vocabularies: .* Run once with warm_start: none"):
        vocabularies_of(str(tmp_path))
