"""Caption scores, against closed forms and what the reference packages gave."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from v2a_models.metrics.caption import bleu4, cider, rouge_l, words

SOUNDS = (
    [
        "a ball bounces on a wooden floor",
        "rain falls on a tin roof",
        "a dog barks twice in the distance while cars pass by",
        "hands are clapping",
    ],
    [
        ["a ball bounces twice on a wooden floor", "a small ball bounces on the floor"],
        ["heavy rain falls on a metal roof", "rain falls on a roof"],
        ["a dog barks in the distance", "cars pass by while a dog barks"],
        ["hands are clapping slowly", "a person claps"],
    ],
)
SINGLE = (
    ["a motor hums and then stops", "the the the the bell", "water drips into a sink"],
    [["a motor hums loudly and then it stops"], ["the bell rings"], ["water drips slowly into a metal sink"]],
)
UNEVEN = (
    ["A small hammer strikes metal four times, softly at first and then harder.", "Wind blows!"],
    [
        [
            "A hammer strikes metal four times and gets louder",
            "Four strikes of a hammer on metal, softly at first",
        ],
        ["Strong wind blows through the trees and a door slams shut", "The wind blows", "Wind"],
    ],
)
"""Captions and their references."""

captions = st.lists(
    st.lists(st.sampled_from(["a", "dog", "barks", "loudly"]), max_size=7), min_size=2, max_size=4
)


def test_words_are_lower_case_without_punctuation() -> None:
    assert words("A dog BARKS, twice -- don't\u2019s_2x!") == ["a", "dog", "barks", "twice", "don't's", "2x"]
    assert words(" ?! ") == []


@pytest.mark.parametrize(
    ("corpus", "expected"), [(SOUNDS, 0.4681344654566925), (SINGLE, 0.0), (UNEVEN, 0.4207125758969905)]
)
def test_bleu_agrees_with_coco(corpus, expected: float) -> None:
    # pycocoevalcap 1.2, Bleu(4). It adds 1e-9 to what it divides by, and so gives 4e-5 for SINGLE,
    # where no 4-gram matches.
    assert bleu4(*corpus) == pytest.approx(expected, abs=1e-9)


def test_bleu_agrees_with_nltk_on_captions_of_four_words_and_more() -> None:
    # nltk 3.10.4, corpus_bleu.
    candidates, references = SOUNDS
    assert bleu4(candidates[:3], references[:3]) == pytest.approx(0.45708612263919834, rel=1e-12)


@pytest.mark.parametrize(
    ("corpus", "expected"),
    [
        (SOUNDS, [0.9222462203023757, 0.9242424242424241, 0.745417515274949, 0.8356164383561644]),
        (SINGLE, [0.8356164383561644, 0.5236051502145923, 0.8090185676392573]),
        (UNEVEN, [0.657935285053929, 1.0]),
    ],
)
def test_rouge_agrees_with_coco(corpus, expected: list[float]) -> None:
    # pycocoevalcap 1.2, Rouge().
    assert rouge_l(*corpus) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("corpus", "expected"),
    [
        (SOUNDS, [0.9333333333333333, 0.7692307692307692, 0.7058823529411764, 0.8571428571428571]),
        (SINGLE, [0.8571428571428571, 0.5, 0.8333333333333333]),
        (UNEVEN, [0.6363636363636364, 0.3076923076923077]),
    ],
)
def test_rouge_with_beta_1_agrees_with_rouge_score(corpus, expected: list[float]) -> None:
    # rouge-score 0.1.2, rougeL F measure against the first reference.
    candidates, references = corpus
    assert rouge_l(candidates, [refs[:1] for refs in references], beta=1) == pytest.approx(
        expected, rel=1e-12
    )


@pytest.mark.parametrize(
    ("corpus", "expected"),
    [
        (SOUNDS, [4.59904018328531, 5.38189361579288, 3.014271318337294, 2.945836119131615]),
        (SINGLE, [3.688275165916133, 1.1911115214127102, 2.9070837494613615]),
        (UNEVEN, [2.6855502221933274, 2.046374153332821]),
    ],
)
def test_cider_agrees_with_coco(corpus, expected: list[float]) -> None:
    # pycocoevalcap 1.2, Cider().
    assert cider(*corpus) == pytest.approx(expected, rel=1e-12)


def test_equal_captions_are_perfect() -> None:
    said = ["a dog barks in the yard", "rain on a roof all day"]
    same = [["something else", caption] for caption in said]
    assert bleu4(said, same) == pytest.approx(1)
    assert rouge_l(said, same) == pytest.approx([1, 1])
    assert cider(said, [[caption] for caption in said]) == pytest.approx([10, 10])


def test_captions_with_no_word_in_common_are_0() -> None:
    said, true = ["wind", "a car passes by here"], [["bells ring"], ["dogs bark"]]
    assert bleu4(said, true) == 0
    assert not rouge_l(said, true).any() and not cider(said, true).any()
    assert bleu4(["", "..."], true) == 0
    assert not rouge_l(["", "..."], true).any() and not cider(["", "..."], [[""], ["x"]]).any()


@given(captions, captions)
def test_scores_stay_in_range(said: list[list[str]], true: list[list[str]]) -> None:
    n = min(len(said), len(true))
    candidates = [" ".join(caption) for caption in said[:n]]
    references = [[" ".join(caption)] for caption in true[:n]]
    assert 0 <= bleu4(candidates, references) <= 1 + 1e-12
    for scores, top in ((rouge_l(candidates, references), 1), (cider(candidates, references), 10)):
        assert scores.shape == (n,) and scores.min() >= 0 and scores.max() <= top + 1e-9


def test_short_captions_pay_for_brevity() -> None:
    full = "a small dog barks twice in the yard"
    cut = "a small dog barks"
    assert bleu4([cut], [[full]]) == pytest.approx(np.exp(1 - 8 / 4))
    # Of two references equally near, the shorter counts: 4 words against 3 and 5.
    assert bleu4([cut], [["a small dog", "a small dog barks twice"]]) == pytest.approx(1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: bleu4([], []), "0 captions"),
        (lambda: rouge_l(["a"], []), "1 captions with references for 0"),
        (lambda: bleu4(["a"], [[]]), "at least one reference"),
        (lambda: bleu4(["a b"], ["a b"]), "list"),
        (lambda: cider(["a"], [["a"]]), "two clips"),
    ],
)
def test_bad_input_is_refused(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
