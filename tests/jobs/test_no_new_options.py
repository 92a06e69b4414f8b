"""Frozen list of the command line's options, with their defaults.

A new option, another default or another name is a decision: change the list together with the code, and the docs.
"""

from __future__ import annotations

import importlib
from typing import Any

import pytest

from jobs import cli
from jobs.common import parser
from jobs.common.options import NETWORKS

REQUIRED = "required"

OPTIONS: dict[str, dict[str, Any]] = {
    "demo": {
        "ARCHIVE": None,
        "--out": "demo",
        "--model": "mini",
        "--num-workers": None,
    },
    "scan": {
        "ARCHIVE": REQUIRED,
        "--out": None,
        "--num-workers": None,
        "--address": None,
        "--show": 200,
        "--sandbox": "auto",
        "--files": None,
        "--include": (),
        "--exclude": (),
        "--join-by": "",
        "--limit": None,
        "--fps": None,
    },
    "dub": {
        "ARCHIVE": REQUIRED,
        "OUT": REQUIRED,
        "--model": "mini",
        "--only": "silent",
        "--seed": 0,
        "--num-workers": None,
        "--dry-run": False,
        "--proxy": "none",
        "--restart": False,
        "--address": None,
        "--tracking-uri": None,
        "--segment-s": 60.0,
        "--max-hours-per-file": 24.0,
        "--batch-size": 1,
        "--candidates": 1,
        "--keep-top": 1,
        "--manifest": None,
        "--prompt": "",
        "--negative": None,
        "--captions": False,
        "--precision": "auto",
        "--sign-key": None,
        "--sign-cert": None,
        "--sandbox": "auto",
        "--left-out": "name",
        "--files": None,
        "--include": (),
        "--exclude": (),
        "--join-by": "",
        "--limit": None,
        "--fps": None,
        "--existing": "keep",
        "--loudness": None,
        "--mix-gain": 0.0,
        "--silence-dbfs": -60.0,
        "--channels": "auto",
        "--audio-codec": "auto",
        "--sidecar": "none",
        "--keep-sound": True,
        "--joins": "auto",
        "--scenes": "on",
        "--static": "ambience",
        "--motion-level": 4.0,
        "--price-core-hour": None,
        "--price-gpu-hour": None,
        "--strict": False,
    },
    "redub": {
        "OUT": REQUIRED,
        "FILE": REQUIRED,
        "--start": REQUIRED,
        "--end": REQUIRED,
        "--seed": REQUIRED,
        "--prompt": None,
        "--negative": None,
        "--model": None,
        "--archive": None,
        "--sign-key": None,
        "--sign-cert": None,
        "--sandbox": "auto",
    },
    "extract": {
        "ARCHIVE": REQUIRED,
        "STORE": REQUIRED,
        "--recipe": "mini",
        "--weights": (),
        "--labels": None,
        "--splits": (80, 10, 10),
        "--overlap-s": None,
        "--drop-silent": None,
        "--drop-static": None,
        "--max-failed": None,
        "--max-hours-per-file": 24.0,
        "--num-workers": None,
        "--gpu-share": 1.0,
        "--batch-size": None,
        "--precision": "auto",
        "--rows-per-file": 128,
        "--describe": False,
        "--address": None,
        "--tracking-uri": None,
        "--sandbox": "auto",
        "--files": None,
        "--include": (),
        "--exclude": (),
        "--join-by": "",
        "--limit": None,
        "--fps": None,
    },
    "train": {
        "NAME": REQUIRED,
        "STORE": REQUIRED,
        "--out": REQUIRED,
        "--steps": 20000,
        "--workers": None,
        "--min-workers": None,
        "--size": "mini",
        "--batch-size": 32,
        "--accumulate": 1,
        "--learning-rate": 0.001,
        "--warmup": 200,
        "--weight-decay": 0.01,
        "--clip-norm": 1.0,
        "--ema": 0.999,
        "--precision": "auto",
        "--strategy": "auto",
        "--save-every": 500,
        "--validate-every": 500,
        "--max-failures": 3,
        "--seed": 0,
        "--start": "",
        "--set": (),
        "--protocol": "splits",
        "--weights": (),
        "--gpus": "auto",
        "--address": None,
        "--run-name": "",
        "--tracking-uri": None,
    },
    "tune": {
        "NAME": REQUIRED,
        "STORE": REQUIRED,
        "--out": REQUIRED,
        "--trials": 20,
        "--steps": 2000,
        "--grace": 200,
        "--reduction": 3,
        "--workers": None,
        "--size": "mini",
        "--learning-rate": (0.0002, 0.005),
        "--warmup": (20, 300),
        "--weight-decay": (0.001, 0.1),
        "--ema": (0.99, 0.999),
        "--batch-size": (32,),
        "--dim": (),
        "--depth": (),
        "--choose": (),
        "--metric": "loss",
        "--precision": "auto",
        "--seed": 0,
        "--start": "",
        "--set": (),
        "--weights": (),
        "--gpus": "auto",
        "--address": None,
        "--run-name": "",
        "--tracking-uri": None,
    },
    "evaluate": {
        "PRED": REQUIRED,
        "REF": REQUIRED,
        "--out": REQUIRED,
        "--events": None,
        "--fps": 0.0,
        "--captions": None,
        "--true-captions": None,
        "--allow-missing": False,
        "--codec": "mini",
        "--baselines": True,
        "--networks": NETWORKS,
        "--weights": (),
        "--download": False,
        "--export": None,
        "--num-workers": None,
        "--address": None,
    },
    "compare": {
        "MODELS": REQUIRED,
        "--store": REQUIRED,
        "--out": REQUIRED,
        "--archive": None,
        "--split": "val",
        "--clips": 200,
        "--seed": 0,
        "--events": None,
        "--networks": NETWORKS,
        "--weights": (),
        "--download": False,
        "--export": None,
        "--listen": 20,
        "--votes": None,
        "--promote": "",
        "--batch-size": 1,
        "--precision": "auto",
        "--num-workers": None,
        "--address": None,
        "--tracking-uri": None,
    },
    "instruct": {
        "STORE": REQUIRED,
        "--out": REQUIRED,
        "--captions": 4,
        "--events": None,
        "--model": "",
        "--seed": 0,
        "--num-workers": None,
        "--address": None,
    },
    "caption": {
        "ARCHIVE": REQUIRED,
        "--out": REQUIRED,
        "--model": "vatt-mini",
        "--windows": 1,
        "--beams": 1,
        "--num-workers": None,
        "--address": None,
        "--files": None,
        "--include": (),
        "--exclude": (),
        "--join-by": "",
        "--limit": None,
        "--fps": None,
    },
    "store": {
        "STORE": REQUIRED,
        "--html": None,
        "--clips": 12,
        "--show": 20,
    },
    "verify": {
        "FILES": (),
        "--source": None,
        "--sidecar": None,
        "--manifest": None,
        "--trust": None,
        "--require-signature": False,
        "--strict": False,
        "--json": False,
        "--sandbox": "auto",
        "--make-test-certificate": None,
    },
    "doctor": {
        "--escapes": False,
        "--json": False,
        "--sandbox": "auto",
    },
    "synth": {
        "OUT": REQUIRED,
        "--clips": 200,
        "--seconds": 8.0,
        "--seed": 0,
        "--strip-sound": False,
        "--num-workers": None,
        "--address": None,
    },
}

ADVANCED = {
    "doctor": "sandbox",
    "dub": "keep-top max-hours-per-file mix-gain motion-level price-core-hour price-gpu-hour sandbox segment-s "
    "silence-dbfs",
    "extract": "gpu-share max-hours-per-file rows-per-file sandbox",
    "redub": "sandbox",
    "scan": "sandbox",
    "train": "clip-norm gpus protocol run-name strategy",
    "tune": "gpus reduction run-name",
    "verify": "sandbox",
}


def options(verb: str) -> list[parser.Option]:
    return list(
        parser.options(getattr(importlib.import_module(cli.VERBS[verb].module), cli.VERBS[verb].config))
    )


def test_every_verb_is_frozen() -> None:
    assert OPTIONS.keys() == cli.VERBS.keys()


@pytest.mark.parametrize("verb", sorted(OPTIONS))
def test_options_of_a_verb_are_the_frozen_ones(verb: str) -> None:
    found = {
        option.name.upper() if option.positional else option.flag: REQUIRED
        if option.required
        else option.default
        for option in options(verb)
    }
    assert found == OPTIONS[verb]
    assert {name: type(value) for name, value in found.items()} == {
        name: type(value) for name, value in OPTIONS[verb].items()
    }


@pytest.mark.parametrize("verb", sorted(OPTIONS))
def test_advanced_options_are_the_frozen_ones(verb: str) -> None:
    advanced = {option.flag[2:] for option in options(verb) if option.section == parser.ADVANCED}
    assert " ".join(sorted(advanced)) == ADVANCED.get(verb, "")


@pytest.mark.parametrize("verb", sorted(OPTIONS))
def test_every_option_is_explained_in_help(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main([verb, "--help"])
    text = capsys.readouterr().out
    words = " ".join(text.replace("│", " ").split())
    for option in options(verb):
        assert option.help and option.help.replace("\n\n", " ") in words, option.name
        assert option.positional or option.flag in text


def test_an_option_of_several_verbs_has_one_text() -> None:
    shared: dict[str, set[str]] = {}
    for verb in cli.VERBS:
        for option in options(verb):
            if option.name in ("num_workers", "address", "tracking_uri", "precision", "networks", "download",
                               "include", "exclude", "limit"):  # fmt: skip
                shared.setdefault(option.name, set()).add(option.help)
    assert all(len(texts) == 1 for texts in shared.values()), shared
