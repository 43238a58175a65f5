"""Trains the bundled FSMN-VAD from shared/data, and writes its model folder.

    python -m training.vad --data ../shared/data --synthetic SYNTH --out DIR --minutes 25

SYNTH is what `training.synthesis` wrote (left out: no synthetic voices). Interrupted, it goes on
from DIR/checkpoint.pt; DIR/log.jsonl and DIR/curves.png show how it went.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from stages.audio.features import Cmvn, Fbank, FbankOptions, save_cmvn, stack_frames
from stages.models import ModelFolder, save_model
from stages.vad.fsmn import Fsmn, FsmnOptions, load_fsmn
from training import distributed
from training.run import Run, set_rate, warm_cosine
from training.vad_scenes import Clip, Scenes, label, noises, recorded, synthetic

OPTIONS = FsmnOptions(
    input_dim=400,
    input_affine_dim=96,
    fsmn_layers=4,
    linear_dim=160,
    proj_dim=80,
    lorder=20,
    rorder=10,
    lstride=1,
    rstride=1,
    output_affine_dim=64,
    output_dim=2,
)
LFR_M = 5
SECONDS = 15
BATCH = 8
PEAK_RATE = 3e-3
WARM_UP = 50  # steps
CALIBRATION = 30  # batches
MISS_WEIGHT = 0.5  # of frames; what lies around speech is kept by the decision anyway
THRESHOLD = math.log(0.8 / 0.2)  # speech exceeds silence by 0.6


def clips(options: argparse.Namespace) -> list[Clip]:
    teacher = load_fsmn(ModelFolder(options.data / "fsmn-vad"))
    fbank, rng = Fbank(teacher.config.fbank), np.random.default_rng(options.seed)
    spoken = list(recorded(options.data, options.seed))
    if options.synthetic is not None:
        spoken += synthetic(options.synthetic)
    return [label(samples, teacher, fbank, rng) for samples in spoken if len(samples) > 8000]


def batch(scenes: Scenes, fbank: Fbank, size: int) -> tuple[Tensor, Tensor]:
    """Stacked features [B, F, 400], not normalised, and labels of silence [B, F]."""
    drawn = [scenes.draw() for _ in range(size)]
    waveforms = torch.from_numpy(np.stack([waveform for waveform, _ in drawn]))
    features, counts = fbank(waveforms, torch.full((size,), waveforms.shape[1]))
    stacked, _ = stack_frames(features, counts, LFR_M, 1)
    return stacked, torch.from_numpy(np.stack([silence for _, silence in drawn]))


def normalisation(scenes: Scenes, fbank: Fbank) -> Cmvn:
    """Mean and variance of each mel bin, the same for all stacked frames."""
    features = batch(scenes, fbank, 64)[0].reshape(-1, LFR_M, fbank.options.num_mel_bins)
    mean, deviation = features.mean((0, 1)), features.std((0, 1))
    return Cmvn(shift=-mean.repeat(LFR_M), scale=1 / deviation.repeat(LFR_M))


def loss_of(network: Fsmn, features: Tensor, silence: Tensor) -> Tensor:
    target = torch.stack([silence, 1 - silence], dim=-1)
    logits = network(features)
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1), target.flatten(0, 1))


@torch.inference_mode()
def calibrate(network: Fsmn, cmvn: Cmvn, scenes: Scenes, fbank: Fbank) -> dict[str, float]:
    """Moves the bias of speech so that FunASR's threshold makes misses and false alarms, weighed
    as in `benchmarks.vad`, cheapest on scenes that were not trained on. Returns both rates."""
    drawn = [batch(scenes, fbank, BATCH) for _ in range(CALIBRATION)]
    logits = torch.cat([network(cmvn(features)).flatten(0, 1) for features, _ in drawn])
    margin = (logits[:, 1] - logits[:, 0]).sort()
    speech = torch.cat([silence.flatten() for _, silence in drawn])[margin.indices] < 0.5
    # A threshold after the n-th frame misses the speech up to it, and alarms at what follows.
    miss = speech.cumsum(0) / speech.sum()
    alarm = 1 - (~speech).cumsum(0) / (~speech).sum()
    best = int((MISS_WEIGHT * miss + (1 - MISS_WEIGHT) * alarm).argmin())
    shift = THRESHOLD - margin.values[best]
    network.out_linear2.linear.bias[1] += shift
    return {"shift": float(shift), "miss": float(miss[best]), "false alarm": float(alarm[best])}


def export(out: Path, network: Fsmn, cmvn: Cmvn) -> None:
    """The published layout; FunASR's names where they apply."""
    frontend = {"fs": 16000, "window": "hamming", "n_mels": 80, "frame_length": 25}
    config = {
        "model": "FsmnVADStreaming",
        "encoder": "FSMN",
        "encoder_conf": asdict(network.options),
        "frontend_conf": {**frontend, "frame_shift": 10, "lfr_m": LFR_M, "lfr_n": 1},
    }
    save_model(out, {f"encoder.{k}": v for k, v in network.state_dict().items()}, config)
    save_cmvn(out / "am.mvn", cmvn)


def train(options: argparse.Namespace) -> None:
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    pool, noise = clips(options), noises(options.data, held_out=False)
    hours = sum(len(clip.samples) for clip in pool) / 16000 / 3600
    print(f"{len(pool)} clips, {hours:.2f} h, {len(noise)} noises", flush=True)

    fbank, network = Fbank(FbankOptions(window="hamming")), Fsmn(OPTIONS)
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=1e-3)
    cmvn = normalisation(Scenes(pool, noise, SECONDS, options.seed), fbank)
    model = options.out / "fsmn-en"
    run = Run(
        options.out,
        options.minutes * 60,
        {"network": network, "optimizer": optimizer},
        lambda: export(model, network, cmvn),
    )
    seed = 1000 * (options.seed + 1 + run.step) + distributed.rank()  # resumed: new scenes
    scenes = Scenes(pool, noise, SECONDS, seed)
    for done in run.steps():
        set_rate(optimizer, PEAK_RATE * warm_cosine(run.step, done, WARM_UP))
        features, silence = batch(scenes, fbank, BATCH)
        loss = loss_of(network, cmvn(features), silence)
        optimizer.zero_grad()
        loss.backward()
        distributed.average_gradients(network)
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        run.note(loss=loss.item())
    if distributed.first():
        scenes = Scenes(pool, noise, SECONDS, options.seed + 1_000_000)
        run.log(calibrate(network, cmvn, scenes, fbank))
        export(model, network, cmvn)


def main() -> None:
    parser = distributed.command_line(__doc__)
    parser.add_argument(
        "--synthetic", type=distributed.absolute, help="folder that training.synthesis wrote"
    )
    parser.add_argument("--minutes", type=float, default=25.0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    distributed.launch(train, options, options.workers, options.address, options.out)


if __name__ == "__main__":
    main()
