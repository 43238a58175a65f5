"""What the recogniser's training does to features."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from stages.audio.features import Fbank, FbankOptions
from training.spec_augment import factors, hurry, mask, stretch

OPTIONS = FbankOptions()


def tone(hertz: float) -> Tensor:
    """Features [1, F, 80] of a second."""
    samples = 0.3 * torch.sin(2 * torch.pi * hertz * torch.arange(16000) / 16000)
    return Fbank(OPTIONS)(samples[None], torch.tensor([16000]))[0]


@pytest.mark.parametrize("factor", [0.88, 1.0, 1.12])
@pytest.mark.parametrize("hertz", [300.0, 1000.0, 3500.0])
def test_a_longer_vocal_tract_lowers_what_is_heard(hertz: float, factor: float) -> None:
    heard = stretch(tone(hertz * factor), torch.tensor([factor]), OPTIONS)[0].mean(0)
    wanted = tone(hertz)[0].mean(0)
    assert abs(int(heard.argmax()) - int(wanted.argmax())) <= 1
    assert torch.allclose(heard.max(), wanted.max(), atol=1.0)


def test_the_highest_frequencies_stay_where_they_are() -> None:
    ramp = torch.arange(80.0).expand(2, 5, 80)
    stretched = stretch(ramp, torch.tensor([0.88, 1.12]), OPTIONS)
    assert torch.allclose(stretched[..., -1], ramp[..., -1], atol=0.3)
    assert (stretched.diff(dim=-1) > 0).all()


def test_factors_are_drawn_within_bounds() -> None:
    drawn = factors(1000)
    assert (drawn >= 0.88).all() and (drawn <= 1.12).all() and drawn.std() > 0.06


def test_masks_leave_most_of_it_and_hide_bands_and_gaps() -> None:
    torch.manual_seed(0)
    lengths = torch.tensor([1000, 400])
    masked = mask(torch.ones(2, 1000, 80), lengths)
    assert not masked[1, 400:].any()
    kept = masked[0].mean()
    assert 0.4 < kept < 0.95
    assert (masked[0] == 0).all(dim=1).any(), "a gap"
    assert (masked[0] == 0).all(dim=0).any(), "a band"


def test_hurried_speech_is_shorter_and_whole() -> None:
    torch.manual_seed(1)
    lengths = torch.tensor([100, 60, 1] * 20)
    climbing = torch.arange(100.0)[None, :, None].expand(60, 100, 3)
    said, heard = hurry(climbing, lengths)
    assert said.shape == (60, int(heard.max()), 3)
    assert (heard >= (lengths / 1.25).long()).all() and (heard <= lengths / 0.85).all()
    assert (heard < lengths).any() and (heard > lengths).any()
    for row, before, after in zip(said[..., 0], lengths, heard, strict=True):
        assert row[0] == 0 and before - 2.5 < row[after - 1] + 1 <= before, "from end to end"
        assert not row[after:].any()


def test_without_strength_nothing_is_done() -> None:
    features, lengths = torch.randn(3, 50, 80), torch.tensor([50, 50, 50])
    said, heard = hurry(features, lengths, strength=0)
    assert torch.equal(heard, lengths) and torch.equal(said, features)
    assert torch.equal(mask(features, lengths, strength=0), features)
    assert torch.equal(factors(3, strength=0), torch.ones(3))
