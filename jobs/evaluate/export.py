"""Export of the scored sounds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from jobs.common.verb import WrongUsage

if TYPE_CHECKING:
    from pipelines.scoring.job import Clip
    from pipelines.scoring.summary import Board


def export(folder: str, name: str, clips: Sequence[Clip], board: Board) -> None:
    """Write the scored sounds and the true ones in av-benchmark's layout: FOLDER/SYSTEM/CLIP.wav, mono, equally long.

    Raises WrongUsage if two clips would have the same file.
    """
    from pipelines import storage
    from pipelines.scoring import sound_folder

    scored = set(board.systems[name].clips)
    exported = [clip for clip in clips if clip.name in scored]
    try:
        files = sound_folder.flat_names([clip.name for clip in exported])
    except sound_folder.SoundError as error:
        raise WrongUsage(f"--export: {error}") from error
    for clip in exported:
        n = len(sound_folder.read_sound(clip.reference).samples)
        for system, uri in ((name, clip.systems[name]), ("reference", clip.reference)):
            samples, _ = sound_folder.read_sound(uri).fitted(n)
            storage.write_atomic(
                storage.join(folder, system, f"{files[clip.name]}.wav"), sound_folder.wav_bytes(samples)
            )
