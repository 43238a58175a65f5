"""Trains the bundled segmentation network from shared/data, and writes its model folder.

    python -m training.segmentation --data ../shared/data --out DIR --minutes 75

Resumes from DIR/checkpoint.pt; a line every 200 steps goes to standard output and DIR/log.jsonl
(`python -m training.curves DIR/log.jsonl` draws it), with scores on held-out speakers.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from itertools import islice, permutations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.turn_taking import real_meetings
from stages.models import save_model
from stages.segmentation.pyannet import CHUNK_MS, Powerset, PyanNet, PyanNetSizes
from training.segmentation_scenes import Scenes, batches, voices
from training.vad_scenes import noises

SIZES = PyanNetSizes(lstm_hidden=128, lstm_layers=2, log_mel=96)
BATCH = 16
PEAK_RATE = 1.5e-3
WARM_UP = 200  # steps
ROOMS = 40
EVERY = 200  # steps between two scores
SCORED = 10  # batches
TRAIN_SEED, SCORED_SEED = 1000, 1


def powerset_classes(powerset: Powerset, heard: Tensor) -> Tensor:
    """The class of each frame: `heard` float [B, S, F] to int64 [B, F]. Of more speakers at once
    than a class can stand for, the first are taken."""
    first = heard * (heard.cumsum(dim=1) <= powerset.at_once)
    return (powerset.mapping @ first - powerset.sizes[:, None] / 2).argmax(dim=1)


def permuted_classes(powerset: Powerset) -> Tensor:
    """Which class each class becomes under each renaming of the speakers; int64 [P, classes]."""
    at = {members: index for index, members in enumerate(powerset.sets)}
    return torch.tensor(
        [
            [at[tuple(sorted(names[m] for m in members))] for members in powerset.sets]
            for names in permutations(range(powerset.speakers))
        ]
    )


def by_appearance(heard: Tensor) -> Tensor:
    """The speakers of each chunk in the order in which they are first heard, [B, S, F]; of two who
    are heard from the same frame on the one who says more."""
    frames = heard.shape[2]
    first = torch.where(heard.any(dim=2), heard.argmax(dim=2), frames)
    order = (first * (frames + 1) - heard.sum(dim=2)).argsort(dim=1, stable=True)
    return heard.gather(1, order[..., None].expand_as(heard))


def loss_of(likely: Tensor, target: Tensor, renamed: Tensor) -> Tensor:
    """Cross entropy under the best renaming of each chunk's speakers. `likely` [B, F, classes],
    `target` [B, F], `renamed` as of `permuted_classes`."""
    targets = renamed[:, target]  # [P, B, F]
    found = likely[None].expand(len(renamed), -1, -1, -1).gather(3, targets[..., None])
    return -found[..., 0].mean(dim=2).amax(dim=0).mean()


@torch.inference_mode()
def scores(
    network: PyanNet, scored: list[tuple[Tensor, Tensor]], renamed: Tensor
) -> dict[str, float]:
    """On chunks of held-out speakers: the loss, average precision of overlapped frames, and the
    share of frames wrongly taken for speech or silence."""
    network.eval()
    sizes = network.powerset.sizes
    losses, overlap, wrong, truth = [], [], [], []
    for waveforms, heard in scored:
        likely = network(waveforms)
        losses.append(loss_of(likely, powerset_classes(network.powerset, heard), renamed).item())
        chances = likely.exp()
        overlap.append(chances[..., sizes == 2].sum(-1).flatten())
        truth.append((heard.sum(1) >= 2).flatten())
        wrong.append(((chances[..., 0] < 0.5) != (heard.sum(1) >= 1)).float().mean().item())
    network.train()
    order = torch.cat(overlap).argsort(descending=True)
    hits = torch.cat(truth)[order].float()
    precision = hits.cumsum(0) / torch.arange(1, len(hits) + 1)
    return {
        "held-out loss": float(np.mean(losses)),
        "overlap precision": float((precision * hits).sum() / hits.sum()),
        "speech error": float(np.mean(wrong)),
    }


def export(out: Path, network: PyanNet) -> None:
    """The names of pyannote's config.yaml where they apply."""
    sizes = network.sizes
    config = {
        "task": {
            "duration": CHUNK_MS / 1000,
            "max_speakers_per_chunk": sizes.speakers,
            "max_speakers_per_frame": network.powerset.at_once,
        },
        "model": {
            "log_mel": {"channels": sizes.log_mel},
            "lstm": {"hidden_size": sizes.lstm_hidden, "num_layers": sizes.lstm_layers},
            "linear": {"hidden_size": sizes.linear_hidden, "num_layers": sizes.linear_layers},
        },
    }
    save_model(out, network.state_dict(), config)


def train(options: argparse.Namespace) -> None:
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    network = PyanNet(SIZES)
    optimizer = torch.optim.AdamW(network.parameters(), lr=PEAK_RATE, weight_decay=1e-3)
    said, real = voices(options.data, held_out=False), real_meetings(options.data)
    hours = sum(clip.duration for clips in said.values() for clip in clips) / 3_600_000
    print(f"{len(said)} speakers, {hours:.1f} h", flush=True)
    frames = network(torch.zeros(1, CHUNK_MS * 16)).shape[1]
    centres = network.front.centre_ms + network.front.frame_ms * np.arange(frames)

    scenes = Scenes(said, real, noises(options.data, False), centres, ROOMS, TRAIN_SEED + 1)
    others = voices(options.data, held_out=True)
    held_out = Scenes(others, real, noises(options.data, True), centres, ROOMS // 4, SCORED_SEED)
    scored = [
        (torch.from_numpy(w), torch.from_numpy(h))
        for w, h in islice(batches(held_out, BATCH), SCORED)
    ]
    renamed = permuted_classes(network.powerset)

    state: dict[str, Any] = {"step": 0, "seconds": 0.0}
    checkpoint = options.out / "checkpoint.pt"
    if checkpoint.is_file():
        state = torch.load(checkpoint, weights_only=True)
        network.load_state_dict(state["network"])
        optimizer.load_state_dict(state["optimizer"])
    step, before = state["step"], state["seconds"]
    scenes.rng = np.random.default_rng(TRAIN_SEED + step)
    drawn = batches(scenes, BATCH)
    print(f"from step {step}", flush=True)

    started, losses = time.monotonic(), []
    budget = 60 * options.minutes
    while (elapsed := before + time.monotonic() - started) < budget:
        # Warm-up by steps, decay by the time that is left: the run ends when it was asked to.
        decay = 0.01 + 0.99 * math.cos(math.pi / 2 * elapsed / budget)
        rate = PEAK_RATE * min(1, (step + 1) / WARM_UP) * decay
        optimizer.param_groups[0]["lr"] = rate
        waveforms, heard = map(torch.from_numpy, next(drawn))
        target = powerset_classes(network.powerset, by_appearance(heard))
        likely = network(waveforms)
        # Half of it by the order of appearance, which breaks the symmetry of the speakers: Park et
        # al., Sortformer (2024), section 3.
        sorted_loss = torch.nn.functional.nll_loss(likely.flatten(0, 1), target.flatten())
        loss = (sorted_loss + loss_of(likely, target, renamed)) / 2
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
        step += 1
        if step % EVERY == 0:
            seconds = before + time.monotonic() - started
            save(checkpoint, network, optimizer, step, seconds)
            export(options.out / "pyannet-en", network)
            row = {"step": step, "loss": float(np.mean(losses)), "rate": rate, "seconds": elapsed}
            row |= scores(network, scored, renamed)
            with (options.out / "log.jsonl").open("a") as log:
                log.write(json.dumps(row) + "\n")
            print({k: round(v, 4) for k, v in row.items()}, flush=True)
            losses = []
    save(checkpoint, network, optimizer, step, budget)
    export(options.out / "pyannet-en", network)
    print(scores(network, scored, renamed), flush=True)


def save(
    path: Path, network: PyanNet, optimizer: torch.optim.Optimizer, step: int, seconds: float
) -> None:
    """Written aside, then renamed: a kill leaves the old checkpoint whole."""
    state = {"network": network.state_dict(), "optimizer": optimizer.state_dict()}
    torch.save(state | {"step": step, "seconds": seconds}, path.with_suffix(".part"))
    path.with_suffix(".part").rename(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="shared/data")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=75.0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    train(options)


if __name__ == "__main__":
    main()
