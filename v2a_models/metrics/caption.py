"""Caption metrics against references: BLEU-4, ROUGE-L and CIDEr-D, as in the COCO caption scorer.

Words are lower-case runs of letters and digits, including inner apostrophes ("don't" is one word). The COCO scorer's
own tokeniser splits at apostrophes and keeps hyphenated words; it treats plain sentences in the same way.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence

import numpy as np

_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)*")

References = Sequence[Sequence[str]]


def words(caption: str) -> list[str]:
    """Words of a caption, as counted by all metrics here."""
    return _WORD.findall(caption.lower().replace("\u2019", "'"))


def bleu4(candidates: Sequence[str], references: References) -> float:
    """Corpus BLEU-4 in [0, 1] of N captions, each with one or more references (Papineni et al. 2002).

    Geometric mean of the clipped n-gram precisions, n = 1 to 4, each counted over the whole corpus, times the
    brevity penalty exp(1 - r / c) with r the sum of the reference lengths nearest to each caption (the
    shorter of two). No smoothing: 0 if no 4-gram matches anywhere. A caption of fewer than four words has no
    4-gram, here and in the COCO scorer; NLTK counts one that failed.

    Raises ValueError for no captions, different lengths, or a caption without references.
    """
    return bleu_of(bleu_counts(candidates, references).sum(0))


def bleu_counts(candidates: Sequence[str], references: References) -> np.ndarray:
    """BLEU-4 counts of each caption: int64 (N, 10), to be summed over clips and passed to `bleu_of`.

    Columns: matching n-grams, n = 1 to 4; n-grams of the caption; its length and that of the nearest reference. Raises
    like `bleu4`.
    """
    rows = []
    for caption, truths in _pairs(candidates, references):
        matched, guessed = [], []
        for n in range(1, 5):
            counts = _ngrams(caption, n)
            most: Counter[tuple[str, ...]] = Counter()
            for truth in truths:
                most |= _ngrams(truth, n)
            matched.append((counts & most).total())
            guessed.append(counts.total())
        nearest = min((len(truth) for truth in truths), key=lambda n: (abs(n - len(caption)), n))
        rows.append([*matched, *guessed, len(caption), nearest])
    return np.array(rows, np.int64)


def bleu_of(counts: np.ndarray) -> float:
    """BLEU-4 of summed `bleu_counts` (10,)."""
    matched, guessed, (ours, theirs) = counts[:4], counts[4:8], counts[8:]
    if not matched.all():
        return 0.0
    brevity = min(0.0, 1 - theirs / ours)
    return math.exp(brevity + float(np.log(matched / guessed).mean()))


def rouge_l(candidates: Sequence[str], references: References, beta: float = 1.2) -> np.ndarray:
    """ROUGE-L of each caption in [0, 1]: float64 (N,) (Lin 2004).

    F measure (1 + beta^2) P R / (R + beta^2 P) of the longest common subsequence; P and R are each the best
    over the references. beta 1.2 is the COCO scorer's; 1 with one reference is what the rouge-score package
    calls rougeL.

    Raises like `bleu4`.
    """
    scores = []
    for caption, truths in _pairs(candidates, references):
        common = [_common(caption, truth) for truth in truths]
        precision = max(common) / len(caption) if caption else 0.0
        recall = max(c / len(truth) if truth else 0.0 for c, truth in zip(common, truths, strict=True))
        bottom = recall + beta**2 * precision
        scores.append((1 + beta**2) * precision * recall / bottom if bottom else 0.0)
    return np.array(scores)


def cider(candidates: Sequence[str], references: References, sigma: float = 6.0) -> np.ndarray:
    """CIDEr-D of each caption in [0, 10]: float64 (N,) (Vedantam et al. 2015, 1411.5726).

    Cosine of TF-IDF vectors of n-grams, n = 1 to 4, with the caption's counts clipped to the reference's and
    a Gaussian penalty on the difference in length (`sigma` words), mean over n and over references, times 10.
    Document frequencies are of these references: the score depends on the corpus, and is 0 for words that all
    clips share.

    Raises like `bleu4`, and for fewer than two clips, which have no document frequencies.
    """
    pairs = _pairs(candidates, references)
    if len(pairs) < 2:
        raise ValueError("CIDEr needs at least two clips to know which words are rare")
    known = [[_all_ngrams(truth) for truth in truths] for _, truths in pairs]
    clips_with: Counter[tuple[str, ...]] = Counter()
    for counted in known:
        clips_with.update({ngram for counts in counted for ngram in counts})
    rarity = {ngram: math.log(len(pairs) / count) for ngram, count in clips_with.items()}
    unseen = math.log(len(pairs))

    def vector(counts: Counter[tuple[str, ...]]) -> dict[tuple[str, ...], float]:
        return {ngram: count * rarity.get(ngram, unseen) for ngram, count in counts.items()}

    scores = []
    for (caption, refs), counted in zip(pairs, known, strict=True):
        ours, total = vector(_all_ngrams(caption)), 0.0
        for truth, counts in zip(refs, counted, strict=True):
            penalty = math.exp(-((len(caption) - len(truth)) ** 2) / (2 * sigma**2))
            total += penalty * _clipped_cosine(ours, vector(counts)).mean()
        scores.append(10 * total / len(refs))
    return np.array(scores)


def _clipped_cosine(ours: dict[tuple[str, ...], float], theirs: dict[tuple[str, ...], float]) -> np.ndarray:
    """Similarity (4,) by n-gram length; 0 if a side has only n-grams shared by all clips."""
    dot, first, second = np.zeros(4), np.zeros(4), np.zeros(4)
    for ngram, weight in ours.items():
        first[len(ngram) - 1] += weight**2
        other = theirs.get(ngram, 0.0)
        dot[len(ngram) - 1] += min(weight, other) * other
    for ngram, weight in theirs.items():
        second[len(ngram) - 1] += weight**2
    norm = np.sqrt(first * second)
    return np.divide(dot, norm, out=np.zeros(4), where=norm > 0)


def _pairs(candidates: Sequence[str], references: References) -> list[tuple[list[str], list[list[str]]]]:
    if not len(candidates) or len(candidates) != len(references):
        raise ValueError(f"{len(candidates)} captions with references for {len(references)}")
    for truths in references:
        if isinstance(truths, str) or not len(truths):
            raise ValueError("every caption needs a list of at least one reference")
    return [(words(c), [words(t) for t in truths]) for c, truths in zip(candidates, references, strict=True)]


def _ngrams(tokens: list[str], n: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1))


def _all_ngrams(tokens: list[str]) -> Counter[tuple[str, ...]]:
    return Counter(tuple(tokens[i : i + n]) for n in range(1, 5) for i in range(len(tokens) - n + 1))


def _common(a: list[str], b: list[str]) -> int:
    """Length of the longest common subsequence."""
    row = [0] * (len(b) + 1)
    for word in a:
        diagonal = 0
        for j, other in enumerate(b, 1):
            diagonal, row[j] = row[j], diagonal + 1 if word == other else max(row[j], row[j - 1])
    return row[-1]
