"""Trains the bundled segmentation network from shared/data, and writes its model folder.

    python -m training.segmentation --data ../shared/data --out DIR --minutes 75

Interrupted, it goes on from DIR/checkpoint.pt; DIR/log.jsonl, with scores on held-out speakers, and
DIR/curves.png show how it went.
"""

from __future__ import annotations

import argparse
from itertools import islice, permutations
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.turn_taking import real_meetings
from stages.models import save_model
from stages.segmentation.pyannet import CHUNK_MS, Powerset, PyanNet, PyanNetSizes
from training import distributed
from training.run import Run, set_rate, warm_cosine
from training.segmentation_scenes import Scenes, batches, voices
from training.vad_scenes import noises

SIZES = PyanNetSizes(lstm_hidden=128, lstm_layers=2, log_mel=96)
BATCH = 16
PEAK_RATE = 1.5e-3
WARM_UP = 200  # steps
ROOMS = 40
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
    """Runs in every worker."""
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    network = PyanNet(SIZES)
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=1e-3)
    said, real = voices(options.data, held_out=False), real_meetings(options.data)
    hours = sum(clip.duration for clips in said.values() for clip in clips) / 3_600_000
    print(f"{len(said)} speakers, {hours:.1f} h", flush=True)
    frames = network(torch.zeros(1, CHUNK_MS * 16)).shape[1]
    centres = network.front.centre_ms + network.front.frame_ms * np.arange(frames)
    others = voices(options.data, held_out=True)
    held_out = Scenes(others, real, noises(options.data, True), centres, ROOMS // 4, SCORED_SEED)
    scored = [
        (torch.from_numpy(w), torch.from_numpy(h))
        for w, h in islice(batches(held_out, BATCH), SCORED)
    ]
    renamed = permuted_classes(network.powerset)

    def exported() -> dict[str, float]:
        export(options.out / "pyannet-en", network)
        return scores(network, scored, renamed)

    parts = {"network": network, "optimizer": optimizer}
    run = Run(options.out, options.minutes * 60, parts, exported)
    scenes = Scenes(said, real, noises(options.data, False), centres, ROOMS, TRAIN_SEED + 1)
    scenes.rng = np.random.default_rng((TRAIN_SEED, run.step, distributed.rank()))
    drawn = batches(scenes, BATCH)
    for done in run.steps():
        set_rate(optimizer, PEAK_RATE * warm_cosine(run.step, done, WARM_UP))
        waveforms, heard = map(torch.from_numpy, next(drawn))
        target = powerset_classes(network.powerset, by_appearance(heard))
        likely = network(waveforms)
        # Half of it by the order of appearance, which breaks the symmetry of the speakers: Park et
        # al., Sortformer (2024), section 3.
        sorted_loss = torch.nn.functional.nll_loss(likely.flatten(0, 1), target.flatten())
        loss = (sorted_loss + loss_of(likely, target, renamed)) / 2
        optimizer.zero_grad()
        loss.backward()
        distributed.average_gradients(network)
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        run.note(loss=loss.item())


def main() -> None:
    parser = distributed.command_line(__doc__)
    parser.add_argument("--minutes", type=float, default=75.0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    distributed.launch(train, options, options.workers, options.address, options.out)


if __name__ == "__main__":
    main()
