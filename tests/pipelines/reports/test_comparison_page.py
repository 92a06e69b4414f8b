"""Pages of a comparison: all that was found, players that find their sounds, and a listening page that is blind."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.reports import comparison_page
from tests.pipelines.reports.test_comparison_table import HOSTILE, example, hostile, item
from v2a_models.metrics.preference import VotesError, preferences

LABELS = ("dog", "rain", "")


def rows_of(summary: dict[str, Any], n: int = 40) -> list[dict[str, Any]]:
    """Scores where clip k has f1 k / 100 for one model, and mini is short of a clip."""
    return [
        {
            "system": system["name"], "clip": f"c{k:02}", "label": LABELS[k % 3], "path": f"films/{k}.mp4",
            "start_s": 8.0 * k, "f1": k / 100 if system["name"] == "large" else 0.5 - k / 200,
            "error": math.nan if system["name"] == "silence" else 100.0 - k, "stft": float(k % 7), "clap": math.nan,
        }
        for system in summary["systems"] for k in range(n) if (system["name"], k) != ("mini", 3)
    ]  # fmt: skip


def data_in(page: str) -> dict[str, Any]:
    """The data as the page's own script reads it."""
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    return json.loads(found[1])


def full() -> dict[str, Any]:
    """A summary with all that a summary can have."""
    summary = example()
    summary["paired"] = {
        "first": "large", "second": "mini",
        "metrics": {
            "f1": item(0.043, 0.02) | {"better": "first"}, "error": item(-2.4, 3.0) | {"better": ""},
            "fdd": item(8.25, 4.0) | {"better": "second"}, "stft": item(0.5, 0.1) | {"better": "second"},
            "clap": item(None, note="no weights") | {"better": ""},
        },
    }  # fmt: skip
    summary["champion"] = {
        "metric": "f1",
        "name": "large",
        "promoted": True,
        "reason": "better beyond its interval",
    }
    vote = {"first": "large", "second": "mini", "preferred_first": 0.63, "n": 30, "low": 0.455, "high": 0.781}
    summary["votes"] = {"file": "v/votes.json", "n": 30, "results": [vote]}
    summary["systems"][1] |= {"failed": 25, "clips": 15}
    summary["systems"][1]["failures"] = [{"clip": f"c{k:02}", "reason": f"reason {k}"} for k in range(25)]
    summary["notes"] = ["3 sounds were cut to length"]
    return summary


def test_the_report_holds_all_that_was_found() -> None:
    summary = full()
    plots = {"bars": "plots/bars.png", "odd <name>": "plots/a b#?.png"}
    page = comparison_page.report_html(summary, rows_of(summary), plots, listen="listen.html")
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page))
    for said in (
        "2 models on 40 clips of 8 s", "3 sounds were cut to length", "reason 19", "and 5 more", "25 clips failed",
        "silence is better than noise", "no weights of CLAP", "fewer clips than dimensions", "What f1 is.",
        "21 November 2026, 08:33 UTC", "v2a compare mini large --store s --out o", "v/votes.json",
    ):  # fmt: skip
        assert said in text, said
    assert "reason 20" not in text
    assert (
        '<img src="plots/bars.png"' in page
        and '<img src="plots/a%20b%23%3F.png" alt="odd &lt;name&gt;"' in page
    )
    assert 'href="listen.html"' in page
    assert re.search(r'<td class="best"><b>0.655</b><small>± 0.029</small></td>', page)
    assert page.count('class="tag">unreliable<') == 1


def test_what_it_comes_to_is_said_in_sentences() -> None:
    summary = full()
    assert comparison_page.paired_sentences(summary) == [
        "large is better than mini beyond the 95 % interval by Onset F1 (+0.043 ± 0.020).",
        "mini is better than large beyond the 95 % interval by FDD (+8.2 ± 4.0).",
        "No difference between large and mini is shown by Onset error (-2.4 ± 3.0 ms).",
        "Differences are large minus mini over the same clips.",
    ]  # what is unfit or missing is not said
    assert comparison_page.votes_sentences(summary) == [
        "Listeners preferred large to mini in 63 % of 30 votes, ties counted half for each "
        "(95 % interval 46 % to 78 %), which shows no preference."
    ]
    assert comparison_page.champion_sentences(summary) == [
        "large is the champion by Onset F1: better beyond its interval"
    ]
    summary["votes"]["results"][0]["low"] = 0.51
    assert "no preference" not in comparison_page.votes_sentences(summary)[0]
    summary["votes"]["results"][0] |= {"preferred_first": None, "n": 0, "low": None, "high": None}
    assert comparison_page.votes_sentences(summary) == ["No listener has voted between large and mini."]
    summary["champion"] |= {"promoted": False, "reason": "the interval holds 0"}
    assert comparison_page.champion_sentences(summary) == [
        "No champion was named by Onset F1: the interval holds 0"
    ]
    nothing = example()
    said = comparison_page.paired_sentences(nothing) + comparison_page.votes_sentences(nothing)
    assert said + comparison_page.champion_sentences(nothing) == []


def test_the_worst_clips_of_every_model_metric_and_class_are_on_the_page() -> None:
    summary = example()
    data = comparison_page.clip_data(summary, rows_of(summary), 4)
    held = {clip["clip"] for clip in data["clips"]}
    by_f1_of_large, by_f1_of_mini = {"c00", "c01", "c02", "c03"}, {"c39", "c38", "c37", "c36"}
    assert by_f1_of_large | by_f1_of_mini <= held  # little is bad; late clips are the worst of mini
    assert {"c00", "c01", "c02"} <= held  # by the error, of which much is bad
    assert all(
        Counter(clip["label"] for clip in data["clips"])[label] >= comparison_page.PER_CLASS
        for label in LABELS
    )
    assert len(held) < 30 and data["of"] == 40 and data["worst"] == 4
    assert [m["title"] for m in data["metrics"]] == ["Onset F1", "Onset error", "STFT"]  # CLAP has no score
    assert [m["sign"] for m in data["metrics"]] == [1, -1, 0]  # nothing is ranked by what is unfit


def test_every_clip_has_its_sounds_and_scores_by_system() -> None:
    summary = example()
    data = comparison_page.clip_data(summary, rows_of(summary), 4)
    assert [system["title"] for system in data["systems"]] == [
        "ground truth",
        "mini",
        "large",
        "silence",
        "noise",
    ]
    assert [system["rank"] for system in data["systems"]] == [False, True, True, False, False]
    clip = next(clip for clip in data["clips"] if clip["clip"] == "c03")
    assert clip["sounds"] == ["clips/reference/c03.wav", None, "clips/large/c03.wav", "clips/silence/c03.wav",
                              "clips/noise/c03.wav"]  # fmt: skip
    assert clip["scores"][2] == [0.03, 97.0, 3.0] and clip["scores"][1] == [None] * 3
    assert clip["scores"][3][1] is None  # NaN is not JSON
    assert (clip["label"], clip["path"], clip["start"]) == ("dog", "films/3.mp4", 24.0)


def test_without_a_fit_metric_clips_are_listed_as_they_are() -> None:
    summary = example()
    summary["unfit"] = {"f1": "x", "error": "y", "stft": "z"}
    data = comparison_page.clip_data(summary, rows_of(summary), 4)
    assert [clip["clip"] for clip in data["clips"]] == ["c00", "c01", "c02", "c03"]


def test_many_clips_make_no_endless_page() -> None:
    summary = example()
    page = comparison_page.report_html(summary, rows_of(summary, 3000), {}, worst=5)
    assert len(data_in(page)["clips"]) < 60


@pytest.mark.parametrize("name", ["..", ".", "", "a/b", "a b", "ü", "a\n", "%2e%2e", 'x"y'])
def test_only_slugs_name_a_sound(name: str) -> None:
    for system, clip in ((name, "c"), ("mini", name)):
        with pytest.raises(ValueError, match="cannot name a file"):
            comparison_page.sound_url(system, clip)


def test_a_slug_names_its_sound() -> None:
    assert comparison_page.sound_url("mini-2.1", "a_b.c-D9") == "clips/mini-2.1/a_b.c-D9.wav"


@pytest.mark.parametrize("path", ["", "/etc/x.png", "../x.png", "a/../../x", "a//b", "./a", "a\\b"])
def test_pictures_lie_below_the_page(path: str) -> None:
    with pytest.raises(ValueError, match="not a path below"):
        comparison_page.report_html(example(), [], {"bars": path})


def test_no_name_becomes_a_scheme() -> None:
    assert comparison_page.relative_url("javascript:alert(1)") == "javascript%3Aalert%281%29"


def test_hostile_names_stay_text() -> None:
    summary = hostile()
    summary |= dict.fromkeys(("command", "version", "store"), HOSTILE)
    summary |= {"notes": [HOSTILE], "votes": {"file": HOSTILE, "n": 0, "results": []}}
    summary["champion"] = {"metric": HOSTILE, "name": HOSTILE, "promoted": True, "reason": HOSTILE}
    for system in summary["systems"]:
        system |= {
            "about": HOSTILE,
            "model": HOSTILE,
            "failed": 1,
            "failures": [{"clip": HOSTILE, "reason": HOSTILE}],
        }
    for metric in summary["metrics"]:
        metric["about"] = HOSTILE
    rows = [row | {"label": HOSTILE, "path": HOSTILE} for row in rows_of(summary, 3)]
    page = comparison_page.report_html(summary, rows, {HOSTILE.replace("/", ""): "p.png"})
    assert "<img src=x" not in page and page.count("</script>") == 2  # the data and the page's own
    assert not re.search(r'<[^>]*\sonerror=[^"]*>', re.sub(r'"[^"]*"', '""', page))
    assert data_in(page)["clips"][0]["label"] == HOSTILE
    listening = comparison_page.listen_html(summary, [(HOSTILE, "mini", "large")], 0)
    assert "<img" not in listening and listening.count("</script>") == 2
    assert data_in(listening)["pairs"][0]["clip"] == HOSTILE


def test_the_pages_need_nothing_from_elsewhere() -> None:
    summary = full()
    pairs, _ = comparison_page.listening_plan(["c00", "c01"], "large", "mini", 2, 0)
    for page in (
        comparison_page.report_html(summary | {"store": "s"}, rows_of(summary), {}),
        comparison_page.listen_html(summary, pairs, 0),
    ):
        assert page.startswith("<!doctype html>") and page.rstrip().endswith("</html>")
        assert not re.search(r"https?://|<(link|script|img|iframe)[^>]*\s(src|href)=|@import|url\(", page)


@pytest.mark.parametrize("n", [0, 1])
def test_a_report_of_next_to_nothing(n: int) -> None:
    summary = example(n)
    summary["systems"] = summary["systems"][:n]
    page = comparison_page.report_html(summary, [], {})
    assert "No clip was scored." in page and f"{n} clip" in page
    assert ("No system has a figure." in page) == (n == 0)


# ---- listening


names = st.lists(st.text("abc-09", min_size=1, max_size=6), min_size=1, max_size=30, unique=True)


@given(names, st.integers(1, 40), st.integers(-3, 2**40))
def test_a_plan_is_fair_complete_and_repeatable(clips: list[str], n: int, seed: int) -> None:
    pairs, key = comparison_page.listening_plan(clips, "large", "mini", n, seed)
    assert (pairs, key) == comparison_page.listening_plan(clips, "large", "mini", n, seed)
    assert len(pairs) == len({pair.clip for pair in pairs}) == min(n, len(clips))
    firsts = sum(pair.system_a == "large" for pair in pairs)
    assert abs(2 * firsts - len(pairs)) <= 1
    assert {pair.file_a: pair.system_a for pair in pairs} | {p.file_b: p.system_b for p in pairs} == key[
        "files"
    ]
    assert key["clips"] == [pair.clip for pair in pairs]
    assert [pair.file_a for pair in pairs][:1] == ["0001-a.wav"]


def test_another_seed_is_another_order_and_other_sides() -> None:
    clips = [f"c{k:02}" for k in range(40)]
    plans = [comparison_page.listening_plan(clips, "large", "mini", 40, seed) for seed in range(4)]
    assert len({tuple(pair.clip for pair in pairs) for pairs, _ in plans}) == 4
    assert len({tuple(pair.system_a for pair in pairs) for pairs, _ in plans}) == 4
    assert len({key["page"] for _, key in plans}) == 4
    odd = {
        comparison_page.listening_plan(["c"], "large", "mini", 1, seed)[0][0].system_a for seed in range(20)
    }
    assert odd == {"large", "mini"}  # no side is always the first's


def test_a_plan_of_nothing_is_refused() -> None:
    for clips, second, n in (
        ([], "mini", 1),
        (["a"], "mini", 0),
        (["a", "a"], "mini", 1),
        (["a"], "large", 1),
    ):
        with pytest.raises(ValueError, match=r"at least one pair|with itself"):
            comparison_page.listening_plan(clips, "large", second, n, 0)


def test_the_page_plays_the_files_of_the_plan_and_names_no_system() -> None:
    summary = example()
    for system in summary["systems"]:
        system |= {"title": f"The {system['name']} model", "about": f"about {system['name']}"}
    pairs, key = comparison_page.listening_plan([f"c{k:02}" for k in range(9)], "large", "mini", 9, 5)
    page = comparison_page.listen_html(summary, pairs, 5)
    data = data_in(page)
    assert [row["clip"] for row in data["pairs"]] == key["clips"]
    assert [row["a"] for row in data["pairs"]] == [f"listen/{pair.file_a}" for pair in pairs]
    assert [row["b"] for row in data["pairs"]] == [f"listen/{pair.file_b}" for pair in pairs]
    assert data["page"] == key["page"] and data["seed"] == key["seed"] == 5
    assert not re.search(r"\b(large|mini|reference|model)\b", page.split("</style>")[1])
    turned = [(pair.clip, pair.system_b, pair.system_a) for pair in pairs]
    other = comparison_page.listen_html(summary, turned, 5)
    assert other.replace(data_in(other)["page"], "") == page.replace(
        data["page"], ""
    )  # nothing else tells sides


def test_votes_of_the_page_meet_its_key_and_no_other() -> None:
    pairs, key = comparison_page.listening_plan([f"c{k}" for k in range(6)], "large", "mini", 6, 5)
    page = data_in(comparison_page.listen_html(example(), pairs, 5))
    given_votes = [
        {"pair": row["pair"], "vote": "a" if pair.system_a == "large" else "b"}
        for row, pair in zip(page["pairs"], pairs, strict=True)
    ]
    votes = {"page": page["page"], "seed": page["seed"], "votes": given_votes}
    [found] = preferences(votes, json.loads(json.dumps(key)))
    assert (found.first, found.wins, found.losses, found.preferred_first.value) == ("large", 6, 0, 1.0)
    _, other = comparison_page.listening_plan([f"d{k}" for k in range(6)], "large", "mini", 6, 5)
    assert other["files"] == key["files"]
    with pytest.raises(VotesError, match="another page"):  # other clips, though seed and sides are the same
        preferences(votes, other)
