"""`v2a dub` on archives that mean harm: names that climb out, links that leave, secrets that must not be told."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from jobs import dub
from jobs.dub import DubConfig
from tests.support import servers
from tests.support.toy_generators import NOISE, write_video

pytestmark = [pytest.mark.timeout(600), pytest.mark.usefixtures("ray_session")]

SECRETS = {
    "AWS_SECRET_ACCESS_KEY": "aws-secret-8d1f",
    "AWS_SESSION_TOKEN": "aws-session-77aa",
    "MLFLOW_TRACKING_PASSWORD": "mlflow-secret-21bc",
    "MLFLOW_TRACKING_TOKEN": "mlflow-token-90de",
}


def report(out: Path) -> dict[str, str]:
    """Status and reason by path."""
    rows = pq.read_table(out / "_v2a" / "report.parquet").to_pylist()
    return {row["path"]: f"{row['status']} {row['reason']}" for row in rows}


def test_links_that_leave_are_named_and_not_followed(tmp_path: Path) -> None:
    outside = write_video(tmp_path / "private" / "secret.mp4", 0.5)
    root = tmp_path / "archive"
    write_video(root / "good.mp4", 0.5)
    (root / "link.mp4").symlink_to(outside)
    (root / "folder").symlink_to(outside.parent)
    (root / "passwd.mp4").symlink_to("/etc/passwd")
    before = outside.read_bytes()
    out = tmp_path / "out"
    assert dub.run(DubConfig(str(root), str(out), model=NOISE, tracking_uri="off")) == 1
    rows = report(out)
    assert rows["good.mp4"].startswith("dubbed")
    assert rows["link.mp4"].startswith("failed") and rows["passwd.mp4"].startswith("failed")
    assert not (out / "link.mp4").exists() and not (out / "folder").exists()
    assert outside.read_bytes() == before


def test_the_last_lines_name_what_failed_and_nothing_but_names(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A dozen broken files, one with a name that would clear the terminal: ten are told, and how many more."""
    root, out = tmp_path / "archive", tmp_path / "out"
    write_video(root / "good.mp4", 0.5)
    for name in ["a\x1b[2J\n.mp4", *(f"b {k}.mp4" for k in range(11))]:
        (root / name).write_bytes(b"\x00\x00\x00\x18ftypmp42" + bytes(2000))
    config = DubConfig(str(root), str(out), model=NOISE, tracking_uri="off")
    for planned in (True, False):
        assert dub.run(dataclasses.replace(config, dry_run=planned)) == (not planned)
        said = capsys.readouterr().out
        assert "\x1b" not in said and r"a\x1b[2J\n.mp4" in said
    rows = report(out)
    lines = [line for line in said.splitlines() if line.startswith("  ")]
    assert len(lines) == 11 and lines[-1] == "  ... and 2 more"
    assert lines[1] == f"  failed: b 0.mp4: {rows['b 0.mp4'].removeprefix('failed ')}"


def test_an_output_is_not_written_through_a_link(tmp_path: Path) -> None:
    """Somebody put a link where a dubbed file goes: it is replaced, not followed."""
    root, out = tmp_path / "archive", tmp_path / "out"
    write_video(root / "a.mp4", 0.5)
    assert dub.run(DubConfig(str(root), str(out), model=NOISE, tracking_uri="off")) == 0
    precious = tmp_path / "precious.mp4"
    precious.write_bytes(b"precious")
    (out / "a.mp4").unlink()
    (out / "a.mp4").symlink_to(precious)
    again = DubConfig(str(root), str(out), model=NOISE, tracking_uri="off", restart=True)
    assert dub.run(again) == 0
    assert precious.read_bytes() == b"precious"
    assert not (out / "a.mp4").is_symlink()


def test_no_secret_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Nothing that a run leaves, says or logs holds a key, token or password."""
    import ray

    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    write_video(tmp_path / "archive" / "a.mp4", 0.5)
    (tmp_path / "archive" / "broken.mp4").write_bytes(b"\x00\x00\x00\x18ftypmp42" + bytes(2000))
    out = tmp_path / "out"
    for uri in (f"http://user:url-secret-55ef@127.0.0.1:{servers.free_port()}", None):
        config = DubConfig(str(tmp_path / "archive"), str(out), tracking_uri=uri)
        assert dub.run(config) == 1
    said = "".join(capfd.readouterr())
    assert (
        "is not recording" in said and "***@127.0.0.1" in (out / "_v2a" / "summary.json").read_text() + said
    )
    logs = Path(ray._private.worker._global_node.get_logs_dir_path())
    files = [path for root in (out, logs) for path in root.rglob("*") if path.is_file()]
    assert {"report.html", "report.parquet", "mlflow.db"} <= {path.name for path in files}
    for secret in [*SECRETS.values(), "url-secret-55ef"]:
        assert secret not in said
        told = [str(path) for path in files if secret.encode() in path.read_bytes()]
        assert not told, f"{secret} stands in {told}"
