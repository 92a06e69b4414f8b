"""Tables of a comparison: figures as print wants them, the right one in bold, nothing a name can break."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.reports import comparison_table
from pipelines.reports.comparison_table import is_finite, number

HOSTILE = """</script><img src=x onerror=alert(1)>|\\ $x_1$ & 5% #~^{ [*] `"'"""


def metric(name: str, group: str, higher: bool | None, **more: Any) -> dict[str, Any]:
    about = {"title": name.upper(), "unit": "", "about": f"What {name} is.", "per_clip": True}
    return {"name": name, "group": group, "higher": higher} | about | more


def item(value: float | None, half: float | None = None, note: str = "", n: int = 40) -> dict[str, Any]:
    ends = (None, None) if half is None or value is None else (value - half, value + half)
    return {"value": value, "low": ends[0], "high": ends[1], "n": n, "note": note}


def example(n_clips: int = 40) -> dict[str, Any]:
    """Two models and three baselines over five metrics, of which one is unfit and one has no figure at all."""
    metrics = [
        metric("fdd", "quality", False, per_clip=False),
        metric("f1", "synchrony", True, title="Onset F1"),
        metric("error", "synchrony", False, title="Onset error", unit="ms"),
        metric("stft", "waveform", False),
        metric("clap", "semantics", True),
        metric("size", "cost", None, unit="M", per_clip=False),
    ]
    figures: dict[str, list[Any]] = {
        "reference": [item(0.0, 0.0), item(1.0, 0.0), item(0.0, 0.0), item(0.0, 0.0), None],
        "mini": [item(41.26, 3.1), item(0.612, 0.031), item(21.4, 2.2), item(1.91, 0.1), item(12.5)],
        "large": [item(33.0, 2.9, "fewer clips than dimensions"), item(0.655, 0.029), item(19.0, 2.0), item(2.4, 0.1),
                  item(85.25)],
        "silence": [item(900.0, 50.0), item(0.0, 0.0), item(None, note="no onsets"), item(1.2, 0.1), None],
        "noise": [item(310.0, 20.0), item(0.18, 0.03), item(88.0, 9.0), item(3.1, 0.2), None],
    }  # fmt: skip
    systems = []
    for name, values in figures.items():
        held = dict(zip(("fdd", "f1", "error", "stft", "size"), values, strict=True))
        known_ones = {key: value for key, value in held.items() if value}
        known_ones["clap"] = item(None, note="no weights of CLAP", n=0)
        kind = "model" if name in ("mini", "large") else "baseline"
        title = {"reference": "ground truth"}.get(name, name)
        systems.append(
            {"name": name, "title": title, "kind": kind, "model": name if kind == "model" else "", "about": "",
             "clips": n_clips, "failed": 0, "failures": [], "metrics": known_ones}
        )  # fmt: skip
    return {
        "command": "v2a compare mini large --store s --out o", "started": 1_795_250_000.5, "version": "0.1.0",
        "store": "s3://bucket/store", "clips": n_clips, "window_s": 8.0, "seed": 3, "metrics": metrics,
        "systems": systems, "paired": None, "unfit": {"stft": "silence is better than noise"}, "champion": None,
        "votes": None, "notes": [],
    }  # fmt: skip


def cells(text: str, title: str) -> list[str]:
    """The cells of the Markdown row of a system, over all tables."""
    lines = [line for line in text.splitlines() if re.match(rf"\| \*?{re.escape(title)}\*? \|", line)]
    return [cell for line in lines for cell in line.strip("| ").split(" | ")[1:]]


def test_figures_stand_in_groups_with_interval_direction_and_the_best_model_bold() -> None:
    text = comparison_table.markdown(example())
    assert cells(text, "large") == ["**33.0** ± 2.9 <sup>1</sup>", "**0.655** ± 0.029", "**19.0** ± 2.0", "2.40 ± 0.10",
                                    "85.2"]  # fmt: skip
    assert cells(text, "ground truth")[:3] == ["0.0", "1.000", "0.0"]  # better than the best, no candidate
    assert "Onset error (ms) ↓" in text and "Onset F1 ↑" in text and "| SIZE (M) |" in text
    assert (
        text.index("**Quality**")
        < text.index("**Synchrony**")
        < text.index("**Waveform**")
        < text.index("**Cost**")
    )
    order = [line.split("|")[1].strip() for line in text.split("**Synchrony**")[1].splitlines()[4:9]]
    assert order == ["mini", "large", "*ground truth*", "*silence*", "*noise*"]


def test_what_is_missing_says_why() -> None:
    text = comparison_table.markdown(example())
    synchrony = text.split("**Synchrony**")[1].split("**Waveform**")[0]
    assert cells(synchrony, "silence")[1] == "n/a <sup>1</sup>" and "\n1. no onsets\n" in synchrony
    assert "- CLAP n/a: no weights of CLAP" in text and "| CLAP" not in text
    assert "1. fewer clips than dimensions" in text


def test_an_unfit_metric_is_marked_and_has_no_best() -> None:
    summary = example()
    assert "STFT ↓ †" in comparison_table.markdown(summary)
    assert "† STFT is unreliable here: silence is better than noise" in comparison_table.markdown(summary)
    assert not comparison_table.best(summary, summary["metrics"][3])
    summary["unfit"] = {}
    assert comparison_table.best(summary, summary["metrics"][3]) == {"mini"}
    assert "†" not in comparison_table.markdown(summary)


def test_ties_are_all_best_and_a_lone_model_or_a_metric_without_direction_has_none() -> None:
    summary = example()
    f1, size = summary["metrics"][1], summary["metrics"][5]
    assert not comparison_table.best(summary, size)
    summary["systems"][1]["metrics"]["f1"] = item(0.655)
    assert comparison_table.best(summary, f1) == {"mini", "large"}
    summary["systems"][1]["metrics"]["f1"] = item(None, note="none")
    assert not comparison_table.best(summary, f1)


@pytest.mark.parametrize(
    ("value", "low", "high", "decimals", "expected"),
    [
        (0.5, 0.4, 0.6, 2, "± 0.10"),
        (0.5, 0.48, 0.9, 2, "[0.48, 0.90]"),
        (5.0, 6.0, 7.0, 1, "[6.0, 7.0]"),  # a bootstrap of a biased figure may leave it out
        (0.5, None, None, 2, ""),
        (0.5, float("nan"), 0.6, 2, ""),
        (1.0, 1.0, 1.0, 2, ""),
        (None, 0.1, 0.2, 2, ""),
    ],
)
def test_spread(
    value: float | None, low: float | None, high: float | None, decimals: int, expected: str
) -> None:
    assert comparison_table.spread({"value": value, "low": low, "high": high}, decimals) == expected


def test_number() -> None:
    assert [number(1234.5, 0), number(-0.001, 2), number(-1.25, 1), number(2.34e-7, 6), number(0.0, 6)] == [
        "1,234", "0.00", "-1.2", "2.3e-07", "0.000000",
    ]  # fmt: skip
    assert not is_finite(None) and not is_finite(float("inf")) and is_finite(0.0)


def test_wide_groups_are_split_and_no_metric_is_lost() -> None:
    summary = example()
    more = [metric(f"m{k}", "synchrony", True) for k in range(11)]
    summary["metrics"] += more
    for system in summary["systems"]:
        system["metrics"] |= {m["name"]: item(0.5, 0.1) for m in more}
    parts = [t for t in comparison_table.tables(summary, 5) if t.title.startswith("Synchrony")]
    assert [t.title for t in parts] == [f"Synchrony ({k} of 3)" for k in (1, 2, 3)]
    assert [m["name"] for t in parts for m in t.metrics] == ["f1", "error", *(m["name"] for m in more)]
    assert max(len(t.metrics) for t in parts) <= 5
    assert [len(t.metrics) for t in comparison_table.tables(summary) if t.title == "Synchrony"] == [13]


def hostile() -> dict[str, Any]:
    summary = example()
    for system in summary["systems"]:
        system["title"] = HOSTILE + system["name"]
    for one in summary["metrics"]:
        one["title"] = one["unit"] = HOSTILE
    summary["systems"][0]["metrics"]["f1"]["note"] = f"1. {HOSTILE}\n\n# x"
    summary["unfit"]["stft"] = HOSTILE
    return summary


def test_markdown_takes_names_for_text() -> None:
    text = comparison_table.markdown(hostile())
    assert "<img" not in text and "</script" not in text and "\n#" not in text
    widths = [len(re.findall(r"(?<!\\)\|", line)) for line in text.splitlines() if line.startswith("| ")]
    plain = [
        line.count("|") for line in comparison_table.markdown(example()).splitlines() if line.startswith("| ")
    ]
    assert widths == plain  # no name opens a cell
    assert "&#49;. &lt;/script&gt;" in text


def test_latex_holds_the_same_figures() -> None:
    text = comparison_table.latex(example())
    assert r"{\boldmath$33.0$} {\scriptsize $\pm$ $2.9$}\textsuperscript{1}" in text
    assert r"\textsuperscript{1} fewer clips than dimensions" in text
    assert r"Onset error (ms) $\downarrow$" in text and r"STFT $\downarrow$ $\dagger$" in text
    assert "% CLAP n/a: no weights of CLAP" in text
    summary = example()
    summary["systems"][1]["metrics"]["fdd"] = {
        "value": 1234.5,
        "low": 1200.0,
        "high": 1400.0,
        "n": 4,
        "note": "",
    }
    assert r"$1{,}234.5$ {\scriptsize {[}$1{,}200.0$, $1{,}400.0${]}}" in comparison_table.latex(summary)


def sound(tex: str) -> bool:
    """True if braces and dollars of LaTeX pair, and all rows of a table have equally many cells."""
    bare = re.sub(
        r"\\[\\{}$&#_%]", "", "\n".join(line for line in tex.splitlines() if not line.startswith("%"))
    )
    depth = 0
    for c in bare:
        depth += (c == "{") - (c == "}")
        if depth < 0:
            return False
    return depth == 0 and bare.count("$") % 2 == 0 and not set('#~^<>|"`') & set(bare.replace("^{", ""))


def test_latex_takes_names_for_text() -> None:
    assert sound(comparison_table.latex(example()))
    text = comparison_table.latex(hostile())
    assert sound(text)
    for table in re.findall(r"\\begin\{tabular\}\{l(r+)\}(.*?)\\end\{tabular\}", text, re.DOTALL):
        rows = [line for line in table[1].splitlines() if line.endswith(r"\\")]
        assert len(rows) == 6
        assert {len(re.findall(r"(?<!\\)&", row)) for row in rows} == {len(table[0])}
        assert not any(row.strip().startswith(("[", "*")) for row in rows)


@given(st.text(max_size=30))
def test_any_title_leaves_the_tables_whole(title: str) -> None:
    summary = example()
    summary["systems"][1]["title"] = title
    assert sound(comparison_table.latex(summary))
    lines = comparison_table.markdown(summary).splitlines()
    assert len(lines) == len(comparison_table.markdown(example()).splitlines())


def test_nothing_measured_is_a_list_of_reasons() -> None:
    summary = example()
    for system in summary["systems"]:
        system["metrics"] = {}
    text = comparison_table.markdown(summary)
    assert "|" not in text and "- Onset F1 n/a: not measured" in text
    assert "tabular" not in comparison_table.latex(summary)
