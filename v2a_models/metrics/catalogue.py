"""Catalogue of the metrics of a comparison: name, unit, direction and required networks."""

from __future__ import annotations

from dataclasses import dataclass

GROUPS = ("quality", "semantics", "synchrony", "waveform", "captions", "cost")


@dataclass(frozen=True)
class Metric:
    """Description of a metric."""

    name: str
    title: str
    group: str
    unit: str
    higher: bool | None
    """True if more is better, False if less is; None if neither is."""
    about: str
    per_clip: bool
    """True for the mean of a score per clip; only such metrics allow a paired bootstrap."""
    networks: tuple[str, ...] = ()
    """Required networks (`v2a_models.metrics.networks`)."""


def _onsets() -> list[Metric]:
    metrics = []
    for name, title in (("f1", "F1"), ("precision", "precision"), ("recall", "recall")):
        for tolerance in (25, 50, 100):
            about = (
                f"onsets within {tolerance} ms of an event, one to one: {title} over all clips with events"
            )
            metrics.append(
                Metric(f"onset_{name}_{tolerance}", f"onset {title} ±{tolerance} ms", "synchrony", "", True,
                       about, False)
            )  # fmt: skip
    return metrics


METRICS: tuple[Metric, ...] = (
    Metric("fdd", "FDD", "quality", "", False,
           "Fréchet distance of codec latents, per frame (2407.10387)", False),
    Metric("fdm", "FDM", "quality", "", False, "Fréchet distance of MFCC, per frame (2407.10387)", False),
    Metric("fd_foley", "FD foley", "quality", "", False,
           "Fréchet distance of the event classifier's features", False, ("foley",)),
    Metric("fad_vggish", "FAD VGGish", "quality", "", False,
           "Fréchet audio distance (1812.08466)", False, ("vggish",)),
    Metric("fd_panns", "FD PANNs", "quality", "", False, "Fréchet distance of PANNs features", False, ("panns",)),
    Metric("fd_passt", "FD PaSST", "quality", "", False, "Fréchet distance of PaSST features", False, ("passt",)),
    Metric("is_foley", "IS foley", "quality", "", True,
           "inception score of the event classifier", False, ("foley",)),
    Metric("is_panns", "IS PANNs", "quality", "", True, "inception score of PANNs (1606.03498)", False, ("panns",)),
    Metric("is_passt", "IS PaSST", "quality", "", True, "inception score of PaSST", False, ("passt",)),
    Metric("class_match", "class match", "semantics", "", True,
           "clips that the event classifier assigns to their label", True, ("foley",)),
    Metric("kld_foley", "KLD foley", "semantics", "nats", False,
           "divergence of the event classifier's answers from those for the reference", True, ("foley",)),
    Metric("kld_panns", "KLD PANNs", "semantics", "nats", False,
           "the same with PANNs' 527 classes", True, ("panns",)),
    Metric("kld_passt", "KLD PaSST", "semantics", "nats", False, "the same with PaSST", True, ("passt",)),
    Metric("alignment", "alignment accuracy", "semantics", "", True,
           "clips whose sound SCAV puts nearer to their pictures than the true sound of another clip; 0.5 by chance",
           True, ("scav",)),
    Metric("wc", "WC", "semantics", "", True,
           "cosine of Wav2CLIP features, generated and reference (2407.10387)", True, ("wav2clip",)),
    Metric("clap", "CLAP", "semantics", "", True,
           "cosine of CLAP features, sound and caption", True, ("clap",)),
    Metric("cc", "CC", "semantics", "", True,
           "cosine of Wav2CLIP features of the sound and CLIP features of the frames (2407.10387)",
           True, ("wav2clip", "clip")),
    Metric("ib", "IB", "semantics", "", True,
           "cosine of ImageBind features of the sound and of the frames (2305.05665)", True, ("imagebind",)),
    *_onsets(),
    Metric("onset_median", "onset error, median", "synchrony", "ms", False,
           "of onsets within 100 ms of an event", False),
    Metric("onset_p90", "onset error, 90 %", "synchrony", "ms", False,
           "90th percentile of the same", False),
    Metric("strength", "strength correlation", "synchrony", "", True,
           "Spearman correlation of the loudness at events with their strength", True),
    Metric("ns", "NS", "synchrony", "", True,
           "correlation of novelty curves of BEATs features (2407.10387)", True, ("beats",)),
    Metric("desync", "DeSync", "synchrony", "s", False,
           "mean offset of sound and picture estimated by Synchformer (2401.16423)", True, ("synchformer",)),
    Metric("ss", "SS", "synchrony", "s", False,
           "mean offset of sound and picture estimated by SparseSync (2210.07055)", True, ("sparsesync",)),
    Metric("stft", "STFT distance", "waveform", "", False,
           "multi-resolution: spectral convergence plus log magnitude (1910.11480)", True),
    Metric("mse", "MSE", "waveform", "", False, "mean square of the difference of the waveforms", True),
    Metric("mae", "MAE", "waveform", "", False, "mean absolute difference of the waveforms", True),
    Metric("tone", "frame-rate tone", "waveform", "dB", False,
           "lines at multiples of the pictures' rate above their surroundings (2308.12408)", True),
    Metric("bleu4", "BLEU-4", "captions", "", True,
           "runs of one to four words shared with the references, over all clips (Papineni et al. 2002)",
           False),
    Metric("rouge_l", "ROUGE-L", "captions", "", True,
           "longest common subsequence of words with a reference (Lin 2004)", True),
    Metric("cider", "CIDEr", "captions", "", True,
           "cosine of rare words with the references, times 10 (1411.5726)", True),
    Metric("bertscore", "BertScore", "captions", "", True,
           "F1 of the words' RoBERTa vectors with a reference (1904.09675)", True, ("bertscore",)),
    Metric("audio_s_per_s", "speed", "cost", "x real time", True,
           "seconds of sound per second of generating, features in, waveform out", False),
    Metric("memory", "memory", "cost", "MiB", False,
           "peak memory of the process while generating (GPU memory on a GPU)", False),
    Metric("parameters", "parameters", "cost", "million", None, "of the generator, without its encoders", False),
)  # fmt: skip

BY_NAME = {metric.name: metric for metric in METRICS}
