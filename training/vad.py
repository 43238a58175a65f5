"""Trains the bundled FSMN-VAD from shared/data, and writes its model folder.

    python -m training.vad --data ../shared/data --synthetic SYNTH --out DIR --minutes 25

SYNTH is what `training.synthesis` wrote (left out: no synthetic voices). Resumes from
DIR/checkpoint.pt; a line a hundred steps goes to standard output and DIR/log.jsonl.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stages.audio.features import Cmvn, Fbank, FbankOptions, save_cmvn, stack_frames
from stages.models import ModelFolder, save_model
from stages.vad.fsmn import Fsmn, FsmnOptions, load_fsmn
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
    optimizer = torch.optim.AdamW(network.parameters(), lr=PEAK_RATE, weight_decay=1e-3)
    state: dict[str, Any] = {"step": 0, "seconds": 0.0}
    checkpoint = options.out / "checkpoint.pt"
    if checkpoint.is_file():
        state = torch.load(checkpoint, weights_only=True)
        network.load_state_dict(state["network"])
        optimizer.load_state_dict(state["optimizer"])
        cmvn = Cmvn(state["shift"], state["scale"])
    else:
        cmvn = normalisation(Scenes(pool, noise, SECONDS, options.seed), fbank)
    scenes = Scenes(pool, noise, SECONDS, options.seed + 1 + state["step"])

    step, before, started, losses = state["step"], state["seconds"], time.monotonic(), []
    budget = 60 * options.minutes
    while (elapsed := before + time.monotonic() - started) < budget:
        # Warm-up by steps, decay by the time that is left: the run ends when it was asked to.
        rate = (
            PEAK_RATE
            * min(1, (step + 1) / 50)
            * (0.01 + 0.99 * math.cos(math.pi / 2 * elapsed / budget))
        )
        optimizer.param_groups[0]["lr"] = rate
        features, silence = batch(scenes, fbank, BATCH)
        loss = loss_of(network, cmvn(features), silence)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
        step += 1
        if step % 100 == 0:
            save(checkpoint, network, optimizer, cmvn, step, before + time.monotonic() - started)
            export(options.out / "fsmn-en", network, cmvn)
            row = {"step": step, "loss": float(np.mean(losses)), "rate": rate, "seconds": elapsed}
            with (options.out / "log.jsonl").open("a") as log:
                log.write(json.dumps(row) + "\n")
            print(row, flush=True)
            losses = []
    scenes = Scenes(pool, noise, SECONDS, options.seed + 1_000_000)
    print(calibrate(network, cmvn, scenes, fbank), flush=True)
    export(options.out / "fsmn-en", network, cmvn)


def save(
    path: Path,
    network: Fsmn,
    optimizer: torch.optim.Optimizer,
    cmvn: Cmvn,
    step: int,
    seconds: float,
) -> None:
    """Written aside, then renamed: a kill leaves the old checkpoint whole."""
    state = {"network": network.state_dict(), "optimizer": optimizer.state_dict()}
    state |= {"shift": cmvn.shift, "scale": cmvn.scale, "step": step, "seconds": seconds}
    torch.save(state, path.with_suffix(".part"))
    path.with_suffix(".part").rename(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="shared/data")
    parser.add_argument("--synthetic", type=Path, help="folder that training.synthesis wrote")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=25.0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    train(options)


if __name__ == "__main__":
    main()
