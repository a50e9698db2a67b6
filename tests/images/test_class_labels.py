"""Labels are the model's classes by name, by number or by order; another order is refused."""

from __future__ import annotations

import numpy as np
import pytest

from exporter.errors import InputError
from exporter.images.class_labels import check_order, match_labels

NAMES = ("zebra", "ant", "cat")


def test_names_come_first_and_some_of_the_classes_are_enough() -> None:
    numbers, note = match_labels(["cat", "zebra", "cat"], NAMES, "--data x")
    assert (numbers["cat"], numbers["zebra"], note) == (2, 0, None)


def test_numbers_are_numbers_whatever_their_order_as_texts() -> None:
    names = tuple(f"class {n}" for n in range(12))
    numbers, note = match_labels([str(n) for n in range(12)], names, "--data x")
    assert [numbers[str(n)] for n in range(12)] == list(range(12))
    assert note is not None
    assert "numbers" in note


def test_strange_names_are_matched_by_order_with_a_note() -> None:
    numbers, note = match_labels(["n03", "n01", "n02"], NAMES, "--data x")
    assert numbers == {"n01": 0, "n02": 1, "n03": 2}
    assert note is not None
    assert "'n01' is class 'zebra'" in note


@pytest.mark.parametrize("given", [["cat", "dog", "ant"], ["n01", "n02"], ["3"]])
def test_labels_of_other_classes_are_refused_with_both_lists(given: list[str]) -> None:
    strange = ", ".join(sorted(set(given) - set(NAMES)))
    with pytest.raises(InputError, match=f"labels: {strange}; the model's: zebra, ant, cat"):
        match_labels(given, NAMES, "--data x")


def test_a_name_that_two_classes_have_is_refused() -> None:
    with pytest.raises(InputError, match="more than one class of the name 'crane'"):
        match_labels(["crane"], ("crane", "ant", "crane"), "--data x")


def test_another_order_shows_in_the_answers() -> None:
    rng = np.random.default_rng(0)
    true = rng.integers(0, 3, 60)
    answers = np.where(rng.random(60) < 0.1, (true + 1) % 3, true)
    check_order(true, answers, NAMES, "--data x")
    for order in ([1, 0, 2], [2, 0, 1]):  # the label that each true class got
        with pytest.raises(InputError, match=r"another order than .* mostly answered ant"):
            check_order(np.array(order)[true], answers, NAMES, "--data x")


def test_a_model_that_is_bad_at_a_class_is_no_other_order() -> None:
    true = np.repeat([0, 1, 2], 20)
    check_order(true, np.repeat([1, 1, 2], 20), NAMES, "--data x")  # all zebras are ants to it
    check_order(true, np.zeros(60, int), NAMES, "--data x")
    check_order(np.array([0, 1]), np.array([1, 0]), NAMES, "--data x")  # two images show nothing
