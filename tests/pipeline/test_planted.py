import json
import subprocess
import sys

import numpy as np
import pytest

from keras_dimgrow.evaluation import roc_auc
from pipeline import cli
from pipeline.cli import main
from pipeline.datasets.csv_file import open_table
from pipeline.datasets.planted import CORRELATED_SHARE, make_planted, stream
from pipeline.datasets.planted_auc import bayes_auc
from pipeline.datasets.planted_files import write_planted
from pipeline.datasets.planted_profiles import PROFILES
from pipeline.errors import UserError

TEACHERS = (0, 1, 2)


@pytest.fixture(scope="module")
def planted():
    return make_planted("planted", 60_000)


def column(planted, name):
    return planted.ids[:, [field.name for field in planted.fields].index(name)]


def with_role(role, profile="planted"):
    return [field for field in PROFILES[profile] if field.role == role]


def test_importing_the_generator_imports_neither_tfx_nor_beam():
    code = "import sys, pipeline.datasets.planted_files; sys.exit('tfx' in sys.modules or 'apache_beam' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("profile", PROFILES)
def test_rows_have_the_documented_shapes_and_ids_within_their_vocabularies(profile):
    planted = make_planted(profile, 1000, teacher=1)

    sizes = [field.vocabulary_size for field in planted.fields]
    assert planted.ids.dtype == np.int32
    assert planted.ids.shape == (1000, len(sizes))
    assert (planted.ids >= 0).all()
    assert (planted.ids < sizes).all()
    assert set(planted.labels) == {0.0, 1.0}
    assert {split: len(planted.labels[rows]) for split, rows in planted.splits.items()} == {
        "train": 700,
        "validation": 150,
        "test": 150,
    }


@pytest.mark.parametrize(("profile", "num_fields", "sizes"), [("planted", 9, 11_000), ("planted39", 39, 1_000_000)])
def test_the_oracle_plan_fits_a_tenth_of_uniform_16_and_useless_rows_are_the_majority(profile, num_fields, sizes):
    fields = PROFILES[profile]

    total = sum(field.vocabulary_size for field in fields)
    assert len(fields) == num_fields
    assert total == pytest.approx(sizes, rel=0.05)
    assert sum(field.vocabulary_size * field.rank for field in fields) <= 0.1 * 16 * total
    assert sum(field.vocabulary_size for field in with_role("useless", profile)) > total / 2
    assert {field.role for field in fields} == {"interacting", "linear", "useless", "duplicate", "correlated"}


@pytest.mark.parametrize("teacher", TEACHERS)
def test_equal_arguments_give_equal_rows_and_others_other_rows(teacher):
    first, again, other_seed, other_draw = (
        make_planted("planted", 500, teacher=teacher + step, seed=seed)
        for step, seed in ((0, 1), (0, 1), (0, 2), (3, 1))
    )

    np.testing.assert_array_equal(first.ids, again.ids)
    np.testing.assert_array_equal(first.labels, again.labels)
    np.testing.assert_array_equal(first.probabilities, again.probabilities)
    for other in (other_seed, other_draw):
        assert (first.ids != other.ids).any()
        assert (first.probabilities != other.probabilities).all()


@pytest.mark.parametrize("chunk_rows", [1, 999, 16_384, 50_000])
def test_a_stream_gives_the_same_rows_in_chunks_of_any_size(chunk_rows, planted):
    num_rows = 100 if chunk_rows == 1 else 40_000
    chunks = list(stream("planted", num_rows, chunk_rows=chunk_rows))

    assert [len(chunk.labels) for chunk in chunks[:-1]] == [chunk_rows] * (len(chunks) - 1)
    for index, expected in enumerate((planted.ids, planted.labels, planted.probabilities)):
        np.testing.assert_array_equal(np.concatenate([chunk[index] for chunk in chunks]), expected[:num_rows])


def test_a_duplicate_renames_the_ids_of_its_partner(planted):
    for field in with_role("duplicate"):
        pairs = np.unique(np.stack([column(planted, field.name), column(planted, field.partner)]), axis=1)
        used = len(np.unique(column(planted, field.partner)))

        assert pairs.shape[1] == used == len(np.unique(pairs[0]))


def test_a_correlated_field_follows_its_partner_in_most_rows(planted):
    for field in with_role("correlated"):
        values, partner = column(planted, field.name), column(planted, field.partner)
        most_frequent = partner == 0
        _, counts = np.unique(values[most_frequent], return_counts=True)
        share = counts.max() / most_frequent.sum()

        by_chance = (values == np.bincount(values[most_frequent]).argmax())[~most_frequent].mean()
        assert share == pytest.approx(CORRELATED_SHARE + (1 - CORRELATED_SHARE) * share_of(planted, field), abs=0.02)
        assert by_chance < share / 2


def share_of(planted, field):
    """How often a correlated field has the id that goes with its partner's id 0."""
    values, partner = column(planted, field.name), column(planted, field.partner)
    return (values == np.bincount(values[partner == 0]).argmax()).mean()


def chi_square(planted, name):
    """Per id with 30 rows or more, of labels minus probabilities or minus their mean: 1 where nothing is left to explain."""
    ids = column(planted, name)

    def mean_square(residuals):
        counts = np.bincount(ids)
        sums = np.bincount(ids, residuals)
        return np.mean(sums[counts >= 30] ** 2 / counts[counts >= 30]) / residuals.var()

    return mean_square(planted.labels - planted.labels.mean()), mean_square(planted.labels - planted.probabilities)


@pytest.mark.parametrize("teacher", TEACHERS)
def test_useful_fields_say_something_about_the_label_and_useless_ones_nothing(teacher):
    planted = make_planted("planted", 60_000, teacher=teacher)

    for field in PROFILES["planted"]:
        alone, given_the_truth = chi_square(planted, field.name)
        tolerance = 1.0 if field.vocabulary_size < 20 else 0.25
        assert given_the_truth == pytest.approx(1, abs=tolerance)
        if field.role == "useless":
            assert alone == pytest.approx(1, abs=tolerance)
        else:
            assert alone > 1 + tolerance


@pytest.mark.parametrize("teacher", TEACHERS)
def test_the_logits_are_as_strong_as_the_profile_says(teacher):
    planted = make_planted("planted", 60_000, teacher=teacher, label_noise=0)

    logits = np.log(planted.probabilities / (1 - planted.probabilities)).astype(float)
    fields = with_role("interacting")[::2] + with_role("linear")
    assert logits.std() == pytest.approx(sum(field.strength**2 for field in fields) ** 0.5, rel=0.05)
    assert logits.mean() == pytest.approx(-1, abs=0.1)
    assert 0.85 < planted.bayes_auc("train") < 0.9


def test_label_noise_pulls_probabilities_to_a_half():
    clean, noisy = (make_planted("small", 2000, label_noise=noise) for noise in (0.0, 0.3))

    np.testing.assert_allclose(noisy.probabilities, 0.7 * clean.probabilities + 0.15, rtol=1e-5)


def test_the_bayes_auc_of_a_few_rows_is_that_of_all_pairs():
    p = np.array([0.1, 0.4, 0.4, 0.9])
    weights = p[:, None] * (1 - p[None])
    right = (p[:, None] > p[None]) + 0.5 * (p[:, None] == p[None])

    assert bayes_auc(p) == pytest.approx((weights * right).sum() / weights.sum())


@pytest.mark.parametrize("teacher", TEACHERS)
def test_the_bayes_auc_is_the_mean_auc_of_sampled_labels(teacher):
    p = make_planted("planted", 20_000, teacher=teacher).probabilities
    rng = np.random.default_rng(0)

    sampled = [roc_auc(rng.random(len(p)) < p, p) for _ in range(20)]

    assert bayes_auc(p) == pytest.approx(np.mean(sampled), abs=4 * np.std(sampled) / 20**0.5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"profile": "planted40"}, r"profile 'planted40' is unknown.*planted39"),
        ({"num_rows": 0}, r"num_rows must be >= 1; received num_rows=0"),
        ({"teacher": -1}, r"teacher must be >= 0; received teacher=-1"),
        ({"seed": -1}, r"seed must be >= 0; received seed=-1"),
        ({"label_noise": 2}, r"label_noise must be a share in \[0, 1\]; received label_noise=2"),
    ],
)
def test_a_wrong_argument_says_what_is_right(arguments, message):
    with pytest.raises(UserError, match=message):
        make_planted(**{"profile": "planted", "num_rows": 10} | arguments)


def test_the_command_writes_arrays_and_the_truth_beside_them(tmp_path, capfd):
    output = tmp_path / "rows.npz"

    arguments = ["planted", "--profile", "planted", "--teacher", "1", "--rows", "2000", "--output", str(output)]
    assert main(arguments) == cli.EXIT_OK

    planted = make_planted("planted", 2000, teacher=1)
    arrays = np.load(output)
    assert set(arrays) == {
        *("x_train", "x_valid", "x_test", "y_train", "y_valid", "y_test", "vocabulary_sizes", "field_names")
    }
    assert arrays["x_train"].dtype == np.int32
    np.testing.assert_array_equal(arrays["x_valid"], planted.ids[planted.splits["validation"]])
    np.testing.assert_array_equal(arrays["y_test"], planted.labels[planted.splits["test"]])
    assert arrays["field_names"].tolist() == [field.name for field in planted.fields]
    assert arrays["vocabulary_sizes"].tolist() == [field.vocabulary_size for field in planted.fields]
    truth = json.loads((tmp_path / "rows.truth.json").read_text())
    assert truth["schema_version"] == 1
    assert (truth["profile"], truth["teacher"], truth["seed"], truth["num_rows"]) == ("planted", 1, 0, 2000)
    assert truth["ranks"] == planted.ranks
    assert truth["roles"]["useless_1"] == "useless"
    assert truth["partners"]["duplicate_0"] == "rank2_0"
    sizes = {field.name: field.vocabulary_size for field in planted.fields}
    assert truth["oracle_parameters"] == sum(sizes[name] * rank for name, rank in planted.ranks.items())
    assert truth["oracle_share_of_uniform_16"] == truth["oracle_parameters"] / (16 * sum(sizes.values()))
    assert truth["bayes_auc"] == {split: planted.bayes_auc(split) for split in planted.splits}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rows.npz", "rows.truth.json"]
    assert "rows.truth.json" in capfd.readouterr().out

    assert main(arguments) == cli.EXIT_USER_ERROR
    assert "exists already" in capfd.readouterr().err
    assert main([*arguments, "--force"]) == cli.EXIT_OK


def test_a_csv_holds_the_same_rows_as_categories(tmp_path):
    output, truth_file = write_planted(str(tmp_path / "rows.csv"), "small", 20_000)

    planted = make_planted("small", 20_000)
    table = open_table([output])
    cells = np.array([cells for _, _, cells in table.rows])
    assert table.columns == (*(field.name for field in planted.fields), "label")
    np.testing.assert_array_equal(np.char.lstrip(cells[:, :-1], "c").astype(int), planted.ids)
    assert cells[0, 0].startswith("c")
    np.testing.assert_array_equal(cells[:, -1].astype(float), planted.labels)
    with open(truth_file, encoding="utf-8") as file:
        assert json.load(file)["bayes_auc"]["all"] == pytest.approx(bayes_auc(planted.probabilities), abs=1e-12)


def test_in_a_directory_the_file_is_named_after_what_is_in_it(tmp_path):
    output, _ = write_planted(str(tmp_path), "small", 100, teacher=2, seed=5)

    assert output == str(tmp_path / "small-2-5.npz")


@pytest.mark.parametrize(
    ("name", "message"),
    [("rows.txt", r"ends in .npz or .csv"), ("no/such/rows.npz", r"cannot be written"), ("no/rows.csv", r"cannot be")],
)
def test_an_output_that_cannot_be_written_leaves_nothing_behind(name, message, tmp_path):
    with pytest.raises(UserError, match=message):
        write_planted(str(tmp_path / name), "small", 100)

    assert not list(tmp_path.iterdir())


def test_a_failed_write_removes_what_it_had_written(tmp_path, monkeypatch):
    def fail(*arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", fail)

    with pytest.raises(UserError, match="No space left on device"):
        write_planted(str(tmp_path / "rows.npz"), "small", 100)

    assert not list(tmp_path.iterdir())


def test_training_batches_come_in_a_new_order_each_pass_and_others_in_the_rows_order():
    planted = make_planted("small", 1000)
    name = planted.fields[-1].name

    def ids(batches):
        return np.concatenate([inputs[name] for inputs, _ in batches.as_numpy_iterator()])

    train = planted.batches("train", 64, seed=3)
    first, second = ids(train), ids(train)
    assert len(first) == 700 // 64 * 64
    assert (first != second).any()
    np.testing.assert_array_equal(first, ids(planted.batches("train", 64, seed=3)))
    np.testing.assert_array_equal(ids(planted.batches("test", 64)), planted.ids[planted.splits["test"]][:, -1])
