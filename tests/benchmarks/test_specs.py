"""What is asked for on the command line."""

import pytest

from benchmarks.quality.runner import add_rules
from benchmarks.quality.specs import parse_budgets, parse_methods


def test_methods_are_read_with_their_settings():
    uniform, paper = parse_methods("uniform, dimgrow_paper:max_steps=200;gate.penalty=0.5;learning_rate=1e-2")

    assert (uniform.label, uniform.name, uniform.takes_budget) == ("uniform", "uniform", True)
    assert paper.label == "dimgrow_paper:max_steps=200;gate.penalty=0.5;learning_rate=1e-2"
    assert (paper.config.max_steps, paper.config.gate.penalty, paper.config.learning_rate) == (200, 0.5, 0.01)
    assert paper.config.gate.cost_exponent == 0.0  # the method's own default, not GateConfig's


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("unifrom", "unknown method 'unifrom'. Did you mean 'uniform'"),
        ("uniform:dimension", "name:key=value;key=value; received 'dimension'"),
        ("uniform:dimensions=3", "unknown key 'dimensions'. Did you mean 'dimension'"),
        ("uniform:dimension=0", "dimension must be an integer >= 1"),
    ],
)
def test_methods_that_cannot_be_are_refused(text, message):
    with pytest.raises(ValueError, match=message):
        parse_methods(text)


def test_budgets_are_shares_in_order():
    assert parse_budgets("0.5,0.05,0.5") == [0.05, 0.5]


@pytest.mark.parametrize("text", ["0", "1.5", "a", "0.1,,0.2"])
def test_budgets_that_are_no_shares_are_refused(text):
    with pytest.raises(ValueError, match=r"in \(0, 1\]"):
        parse_budgets(text)


def test_simple_rules_are_compared_whether_asked_for_or_not():
    specs, missing = add_rules(parse_methods("dimgrow_paper,uniform"))

    assert [spec.label for spec in specs if not spec.is_rule] == ["dimgrow_paper"]
    assert sorted([*missing, *(spec.label for spec in specs if spec.is_rule)]) == [
        *("log_vocabulary", "mixed_dimension", "uniform")
    ]
