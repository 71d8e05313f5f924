"""What a check calls wrong in the outputs of a signature."""

import re

import numpy as np
import pytest

from serving.check_outputs import find_faults, measure_difference, read_probabilities

SCORES = np.array([[0.2, 0.8], [0.5, 0.5]], np.float32)
CLASSES = np.array([[b"0", b"1"]] * 2, object)


@pytest.mark.parametrize(
    ("outputs", "fault"),
    [
        ({"scores": SCORES, "classes": CLASSES}, None),
        ({"outputs": SCORES[:, :1]}, None),
        ({"scores": np.array([3, 70]), "outputs": np.array([1, 2]), "classes": np.array([1, 2])}, None),
        ({"scores": SCORES[:1]}, r"scores have shape \[1, 2\]; expected \[2, 2\]"),
        ({"scores": SCORES * 2}, "scores are no probabilities"),
        ({"scores": SCORES, "classes": CLASSES[:, :1]}, r"classes are object \[2, 1\]; expected a string"),
        ({"scores": SCORES, "classes": SCORES}, r"classes are float32 \[2, 2\]; expected a string"),
        ({"age": np.array([1])}, r"output 'age' has shape \[1\]; expected 2 rows"),
        ({"age": np.array([1, np.nan])}, "output 'age' is not finite"),
    ],
)
def test_faults_are_told_and_nothing_else(outputs, fault):
    faults = find_faults(outputs, num_rows=2)
    if fault is None:
        assert faults == []
    else:
        (found,) = faults
        assert re.search(fault, found)


def test_probabilities_are_those_of_the_positive_class():
    assert read_probabilities({"scores": SCORES, "classes": CLASSES}).tolist() == SCORES[:, 1:].tolist()
    assert read_probabilities({"outputs": SCORES[:, :1]}).tolist() == SCORES[:, :1].tolist()
    assert read_probabilities({"outputs": np.array([1, 2])}) is None


@pytest.mark.parametrize(
    ("found", "difference"),
    [
        (SCORES, 0),
        (SCORES + np.float32(0.25), 0.25),
        (SCORES[:1], np.inf),
        (np.where(SCORES > 0.6, np.nan, SCORES), np.inf),
    ],
)
def test_difference_is_the_largest_and_infinite_where_nothing_compares(found, difference):
    assert measure_difference({"scores": found}, {"scores": SCORES}) == pytest.approx(difference)


def test_texts_and_outputs_that_are_not_there_differ():
    assert measure_difference({"classes": CLASSES}, {"classes": CLASSES}) == 0
    assert measure_difference({"classes": CLASSES[:, ::-1]}, {"classes": CLASSES}) == np.inf
    assert measure_difference({}, {"classes": CLASSES}) == np.inf
