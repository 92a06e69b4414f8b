#!/usr/bin/env bash
# Makes the fixtures of tests/jobs/test_begun_before.py with the code of an earlier commit: see README.md.
#
#     bash tests/data/begun_before/make.sh CHECKOUT [KIND...]      # a clone of that commit, after `make setup` in it
#
# KIND is dub, extract, train, recipes or models; all of them by default.
#
# This file is a record. It follows the names of the commit that it was run with (9c7d5bd) and is not kept up to date
# with later ones: fixtures of a later commit get a folder, and a script, of their own beside this one.
set -euo pipefail
checkout=$(realpath "$1"); shift
kinds=${*:-dub extract train recipes models}
wanted() { [[ " $kinds " == *" $1 "* ]]; }
here=$(realpath "$(dirname "$0")")
python=$checkout/.venv/bin/python

# Addresses in the files begin with this folder: the same for whoever makes them again. The tests put theirs there.
root=/begun
test ! -e $root || { echo "$root exists: remove it first"; exit 1; }
mkdir $root
test -n "${KEEP-}" || trap "rm -rf $root" EXIT
cd "$checkout"
export OMP_NUM_THREADS=1 RAY_USAGE_STATS_ENABLED=0 RAY_worker_niceness=0
unset RAY_ADDRESS MLFLOW_TRACKING_URI PYTHONPATH || true

# Films: small, silent or with a tone, modification times in whole seconds (they are part of a film's name).
cat > $root/make_films.py <<'PYTHON'
import os, sys
from fractions import Fraction
from pathlib import Path
import av
import numpy as np

def film(path, seconds, tone=0.0, fps=12, size=(64, 48)):
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as out:
        video = out.add_stream("mpeg4", rate=fps)
        video.width, video.height, video.pix_fmt = *size, "yuv420p"
        audio = out.add_stream("aac", rate=16000, layout="mono") if tone else None
        for k in range(round(seconds * fps)):
            picture = np.full((size[1], size[0], 3), (k * 29) % 256, np.uint8)
            picture[:, : (k * 7) % size[0]] = (200, 40, k % 256)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = k, Fraction(1, fps)
            out.mux(video.encode(frame))
        out.mux(video.encode(None))
        if audio is not None:
            wave = 0.5 * np.sin(2 * np.pi * tone * np.arange(round(seconds * 16000)) / 16000).astype(np.float32)
            for at in range(0, len(wave), 1024):
                block = av.AudioFrame.from_ndarray(wave[None, at : at + 1024], format="fltp", layout="mono")
                block.sample_rate, block.pts, block.time_base = 16000, at, Fraction(1, 16000)
                out.mux(audio.encode(block))
            out.mux(audio.encode(None))
    os.utime(path, (1_500_000_000, 1_500_000_000))

root = Path(sys.argv[1])
silent = root / "dub/archive"
if "more" not in sys.argv:  # Matroska gets another identity each time: a film is made once
    film(silent / "1 done.mp4", 2.0)
    film(silent / "2 done.mkv", 1.0)
else:
    film(silent / "3 begun" / "reel.mp4", 3.0)
    film(silent / "4 to do.avi", 1.0)
    film(silent / "5 skip.mp4", 1.0)
for k in range(4):
    film(root / "extract/archive" / f"film {k}.mp4", 3.0, tone=100.0 * (k + 2))
    film(root / "train/archive" / f"film {k}.mp4", 3.2, tone=50.0 * (k + 2))
film(root / "recipes/archive/film.mp4", 4.0, tone=440.0)
PYTHON
nice "$python" $root/make_films.py $root

# Models of every system, untrained: their config.json is what counts. Weights repeat a short pattern, so that they
# take no room in an archive; the sound of `painted` is soft, and takes little room as FLAC.
cat > $root/make_models.py <<'PYTHON'
import sys
from pathlib import Path
import torch
from v2a_models.checkpoint import save_generator
from v2a_models.codec import Codec
from v2a_models.maskvat.generator import MaskVATGenerator
from v2a_models.maskvat.model import VARIANTS, MaskVAT, MaskVATConfig
from v2a_models.maskvat.sampling import SamplingConfig
from v2a_models.recipe import Recipe, View
from v2a_models.scav import SCAV, SCAVConfig
from v2a_models.systems import new_generator
from v2a_models.vatt import language
from v2a_models.vatt.audio import AudioConfig
from v2a_models.vatt.converter import ConverterConfig
from v2a_models.vatt.generator import ConverterGenerator, VATTConfig, VATTGenerator
from v2a_models.visual import SemanticEncoder, SyncEncoder

CODEC = dict(kind="spectral", width=8, encoder_depth=1, decoder_depth=1, latent_dim=8, n_codebooks=4,
             codebook_size=512, codebook_dim=8)
PATTERN = torch.tensor([-1.5, -1.0, -0.5, 0.5, 1.0, 1.5])[torch.randint(6, (251,), generator=torch.Generator().manual_seed(0))]

def plain(module):
    for tensor in module.state_dict().values():
        if tensor.is_floating_point() and tensor.numel() > 1 and float(tensor.std()) > 0:
            scale = 2.0 ** round(float(tensor.std().log2()))
            times = -(-tensor.numel() // len(PATTERN))
            tensor.copy_((PATTERN * scale).repeat(times)[: tensor.numel()].view(tensor.shape))

def save(generator, folder):
    plain(generator)
    if getattr(generator, "codec", None) is not None:
        generator.codec.dac.decoder.output.bias.data[:513] = -5.0
    save_generator(generator.eval(), Path(folder))

torch.manual_seed(0)
root = Path(sys.argv[1])
mini = Recipe("mini", window_s=0.4, overlap_s=0.08)
for variant in VARIANTS:
    made = MaskVATGenerator(
        mini, Codec(CODEC), SemanticEncoder.mini(), SyncEncoder.mini(),
        MaskVAT(MaskVATConfig(variant=variant, dim=16, depth=1, heads=2, encoder_depth=1)),
        SamplingConfig(steps=2, guidance=1.5, temperature=0.9, choice_temperature=3.5, top_k=24),
    )
    if variant == "hybrid":
        made.scav = SCAV(SCAVConfig(audio_channels=8, width=16, depth=1, dim=16))
        plain(made.scav)
    save(made, root / f"maskvat-{variant}")
texts = ("a heavy hammer strikes an anvil", "rain falls, heavy", "someone hits a drum with a stick, loud")
own = dict(language.SMALL, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
           num_key_value_heads=2)
text = ConverterConfig(128, own=own, tokenizer=language.train_tokenizer(texts, 100), max_text=16, visual_tokens=2)
save(ConverterGenerator(mini, SemanticEncoder.mini(), text, 2), root / "vatt-converter")
for name in ("vatt", "vatt-cross-attn", "vatt-v"):
    condition = 16 if name != "vatt-v" else 128
    audio = AudioConfig(n_codebooks=4, codebook_size=512, condition_dim=condition, sync_dim=128, dim=16, separate=1,
                        shared=1, heads=2, join="cross" if name == "vatt-cross-attn" else "prefix")
    settings = VATTConfig(audio, None if name == "vatt-v" else text)
    save(VATTGenerator(mini, Codec(CODEC), SemanticEncoder.mini(), SyncEncoder.mini(), settings), root / name)
raw = Recipe("small raw", window_s=0.8, semantic=None, sync=None, frames=View(10, 16, 16), sample_rate=1000,
             channels=2, waveform=True)
OPTIONS = {
    "deep-fusion": dict(frames=3, audio_width=4, video_width=4, depth=1),
    "wavenet": dict(layers=4, stacks=1, channels=8, skip=8, video_width=4, crop_frames=4),
    "av-transformer": dict(context=64, strides=[4], dim=8, depth=1, heads=2, video_width=4),
    "vqvae-fc": dict(width=4, codebook_size=16, hidden=[8], stage=2),
}
for name, options in OPTIONS.items():
    save(new_generator(name, raw, **options), root / name)
PYTHON
nice "$python" $root/make_models.py $root/models

# Runs a command in a session of its own and kills that, all of it, once CONDITION (bash) holds.
killed_when() { # CONDITION COMMAND...
    local condition=$1; shift
    setsid nice "$@" < /dev/null > $root/killed.log 2>&1 &
    local job=$!
    until eval "$condition"; do
        kill -0 $job 2> /dev/null || { echo "over before it could be killed: $*"; cat $root/killed.log; return 1; }
        sleep 0.01
    done
    kill -9 -- -$job; wait $job || true
    sleep 3 # Ray's own processes end when they find the driver gone
}

# dub: two films done with their report, then more films, killed among the parts of the third
if wanted dub; then
cp -r $root/models/maskvat-hybrid $root/dub/painted
cat > $root/dub/films.csv <<'CSV'
path,prompt,negative,seed,start_s,end_s,skip
1 done.mp4,,,8,0.4,1.8,
5 skip.mp4,,,,,,yes
CSV
dub=("$python" -m jobs.dub $root/dub/archive $root/dub/half --model $root/dub/painted --manifest $root/dub/films.csv
    --segment-s 0.5 --precision float32 --num-workers 1 --tracking-uri off)
sed -i '/5 skip/d' $root/dub/films.csv
nice "${dub[@]}" < /dev/null
echo '5 skip.mp4,,,,,,yes' >> $root/dub/films.csv
nice "$python" $root/make_films.py $root more
killed_when 'test $(find $root/dub/half/_v2a/parts -name "*.npz" 2> /dev/null | wc -l) -ge 2' "${dub[@]}"
find $root/dub/half -type f | sort
fi

# extract: killed after a few of its windows
if wanted extract; then
cat > $root/extract/small.yaml <<'YAML'
name: small
window_s: 0.5
overlap_s: 0
frames: {fps: 10, width: 16, height: 12, fit: crop}
waveform: {rate: 2000, channels: 1}
YAML
killed_when 'test $(ls $root/extract/half/split=* 2> /dev/null | grep -c parquet$) -ge 5' \
    "$python" -m jobs.extract $root/extract/archive $root/extract/half --recipe $root/extract/small.yaml \
    --rows-per-file 1 --num-workers 1 --tracking-uri off
find $root/extract/half -type f | sort
fi

# train: killed after a checkpoint
if wanted train; then
cat > $root/train/small.yaml <<'YAML'
name: small raw
window_s: 0.8
frames: {fps: 10, width: 16, height: 16}
waveform: {rate: 1000, channels: 2}
YAML
nice "$python" -m jobs.extract $root/train/archive $root/train/store --recipe $root/train/small.yaml \
    --splits 75 25 0 --num-workers 2 --tracking-uri off < /dev/null
killed_when 'grep -q checkpoint_dir_name $root/train/half/_v2a/train/run0/checkpoint_manager_snapshot.json 2> /dev/null' \
    "$python" -m jobs.train wavenet $root/train/store --out $root/train/half --steps 100000 --batch-size 4 \
    --learning-rate 0.003 --warmup 2 --ema 0.8 --precision float32 --save-every 3 --validate-every 100000 --workers 1 \
    --set layers=4 stacks=1 channels=8 skip=8 video_width=4 crop_frames=4 --tracking-uri off
rm -r $root/train/archive
find $root/train/half -type f | sort
fi

# recipes: a store of the bundled model's recipe, a YAML with encoders
if wanted recipes; then
cat > $root/recipes/encoders.yaml <<'YAML'
name: mine
window_s: 4
overlap_s: 0.4
semantic: {encoder: mini, fps: 8, width: 64, height: 64, fit: squeeze}
sync: {encoder: mini, fps: 25, width: 64, height: 64, fit: crop}
codec: {encoder: mini}
frames: {fps: 10, width: 32, height: 32}
YAML
nice "$python" -m jobs.extract $root/recipes/archive $root/recipes/store --recipe mini --precision float32 \
    --num-workers 2 --tracking-uri off < /dev/null
cat > $root/recipes/films.csv <<'CSV'
path,prompt,negative,seed,start_s,end_s,skip
film.mp4,a heavy hammer,rain falls,8,0.5,3.5,no
CSV
fi

for kind in $kinds; do
    tar --sort=name --owner=0 --group=0 --numeric-owner --format=pax --pax-option=delete=atime,delete=ctime \
        -C $root -cf - $kind | xz -9e > "$here/$kind.tar.xz"
done
ls -l "$here"
