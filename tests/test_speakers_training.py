"""The recipe for the speaker network: pseudo-voices, and where the teacher puts them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from stages.speakers.campplus import CamPlusPlus
from training.speakers import SIZES
from training.speakers_voices import ROWS, Voices, discriminant, warped

RATE = 16000
PITCH = 125.0


def vowel(formant: float) -> Tensor:
    """1.5 s of a pulse train of PITCH Hz through one resonance: float32 [1, 24000]."""
    seconds = torch.arange(24000) / RATE
    harmonics = torch.arange(1, 60) * PITCH
    heights = 1 / (1 + ((harmonics - formant) / 150) ** 2)
    tones = heights[:, None] * torch.sin(2 * torch.pi * harmonics[:, None] * seconds)
    return 0.05 * tones.sum(0, keepdim=True)


@pytest.mark.parametrize("warp", [0.9, 1.0, 1.1])
def test_a_warp_moves_the_formant_and_leaves_the_pitch(warp: float) -> None:
    moved = warped(vowel(1500), torch.tensor([warp]))
    lines = torch.fft.rfft(moved[0]).abs().square()
    hertz = torch.arange(len(lines)) * RATE / 24000
    near = (hertz > 700) & (hertz < 2500)
    formant = float((lines * hertz)[near].sum() / lines[near].sum())
    # The envelope is smooth and its change is bounded, hence not the whole way.
    assert formant / 1500 == pytest.approx(1 + 0.75 * (warp - 1), abs=0.03)
    off_pitch = (hertz / PITCH - (hertz / PITCH).round()).abs() > 0.1
    assert float(lines[off_pitch].sum() / lines.sum()) < 0.01
    if warp == 1.0:
        torch.testing.assert_close(moved, vowel(1500), atol=1e-4, rtol=0)


def test_the_network_learns_to_tell_two_sounds_apart() -> None:
    # Also that its gradients stay within their memory: see the shortcut in campplus.py.
    torch.manual_seed(0)
    network = CamPlusPlus(SIZES).train()
    learned = torch.optim.SGD(network.parameters(), lr=0.02)
    sounds = torch.randn(2, 1, 80).repeat_interleave(16, dim=0)
    classes = torch.arange(2).repeat_interleave(16)
    losses = []
    for _ in range(8):
        heard = sounds + 0.3 * torch.randn(32, 148, 80)
        loss = cross_entropy(network(heard)[:, :2], classes)
        learned.zero_grad()
        loss.backward()
        learned.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


def test_the_first_row_of_voices_is_as_recorded() -> None:
    voices = Voices.draw(50, seed=1)
    assert voices.speeds.shape == voices.warps.shape == (ROWS, 50)
    assert (voices.speeds[0] == 1).all() and (voices.warps[0] == 1).all()
    assert np.ptp(voices.speeds[1:]) > 0.3
    assert np.array_equal(voices.speeds, Voices.draw(50, seed=1).speeds)


def test_the_discriminant_sees_past_what_varies_within_a_speaker() -> None:
    draw = torch.Generator().manual_seed(0)
    people = torch.arange(20).repeat_interleave(30)
    centres = torch.randn(20, 6, generator=draw)
    spread = torch.randn(600, 12, generator=draw) * torch.tensor([0.3] * 6 + [2.0] * 6)
    vectors = spread + torch.cat([centres[people], torch.zeros(600, 6)], dim=1)

    def right(vectors: Tensor) -> float:
        """How often another vector of the same person is the nearest."""
        similar = normalize(vectors, dim=1) @ normalize(vectors, dim=1).T
        nearest = similar.fill_diagonal_(-2).argmax(1)
        return float((people[nearest] == people).float().mean())

    assert right(vectors @ discriminant(vectors, people, 6)) > right(vectors) + 0.2
