"""The MMI criterion, held against the enumeration of every path; and a training that learns."""

from __future__ import annotations

from itertools import groupby, product

import pytest
import torch
from torch import Tensor

from stages.asr.ctc_network import CtcNetwork, NetworkOptions
from training.asr import TOKENS, Targets, Trainer, disagreement
from training.mmi import log_denominator, phone_trigram
from training.pronunciations import PHONES, pronounce
from training.run import set_rate

SIZE = 4


@pytest.fixture
def trigram() -> Tensor:
    return phone_trigram([[1, 2, 3, 1, 1, 2], [3, 2, 1]], SIZE)


def enumerated(log_probs: Tensor, trigram: Tensor) -> Tensor:
    """log of the sum over all paths of P(path) times P(its phones)."""
    totals = []
    for path in product(range(SIZE), repeat=len(log_probs)):
        total = log_probs[range(len(path)), path].sum()
        before, last = 0, 0
        for phone in (token for token, _ in groupby(path) if token):
            total = total + trigram[before, last, phone].log()
            before, last = last, phone
        totals.append(total)
    return torch.logsumexp(torch.stack(totals), 0)


def test_the_denominator_sums_over_every_path_of_every_length(trigram: Tensor) -> None:
    torch.manual_seed(0)
    log_probs = torch.randn(3, 5, SIZE).log_softmax(-1).requires_grad_()
    lengths = torch.tensor([5, 3, 1])
    ours = log_denominator(log_probs, lengths, trigram)
    ours.sum().backward()
    gradient = log_probs.grad
    log_probs.grad = None
    rows = zip(log_probs, lengths, strict=True)
    theirs = torch.stack([enumerated(row[:length], trigram) for row, length in rows])
    theirs.sum().backward()
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)
    torch.testing.assert_close(gradient, log_probs.grad, atol=1e-5, rtol=0)


def test_ten_minutes_of_confident_frames_stay_finite() -> None:
    """Frames that are sure of what the trigram calls impossible: both ends of float32."""
    trigram = phone_trigram([[1, 2, 3] * 5000], SIZE)
    log_probs = torch.full((1, 15_000, SIZE), -40.0)
    log_probs[0, :, 3] = 0.0
    log_probs[0, ::2, 3], log_probs[0, ::2, 1] = -40.0, 0.0
    log_probs.requires_grad_()
    total = log_denominator(log_probs, torch.tensor([15_000]), trigram)
    total.sum().backward()
    assert log_probs.grad is not None
    assert torch.isfinite(total).all()
    assert torch.allclose(log_probs.grad.sum(-1), torch.ones(1, 15_000), atol=1e-3)


def test_trigram_probabilities_sum_to_one(trigram: Tensor) -> None:
    assert torch.allclose(trigram.sum(-1), torch.ones(SIZE, SIZE), atol=1e-6)
    assert (trigram[..., 0] == 0).all()
    assert trigram[1, 2, 3] > 0.3


def test_words_are_pronounced_by_the_dictionary_and_strange_ones_by_rule() -> None:
    known = pronounce(["read", "the", "mhm", "quelbrandt", "o'brien"])
    assert ("DH", "AH") in known["the"] and ("DH", "IY") in known["the"]
    assert set(known["read"]) == {("R", "EH", "D"), ("R", "IY", "D")}
    assert known["quelbrandt"][0][0] == "K"
    assert all(set(phones) <= set(PHONES) for ways in known.values() for phones in ways)


def test_training_lowers_both_losses() -> None:
    """A tiny network on two kinds of 'speech': bands of noise that stand for two words."""
    torch.manual_seed(0)
    words = {"see": slice(10, 30), "moo": slice(50, 70)}
    texts = ["see moo see", "moo moo see", "see see see", "moo see moo"]
    features = torch.randn(4, 200, 80) * 0.1
    for row, text in zip(features, texts, strict=True):
        for at, word in enumerate(text.split()):
            row[20 + 60 * at : 50 + 60 * at, words[word]] += 3.0
    targets = Targets(texts, seed=0)
    network = CtcNetwork(NetworkOptions(len(TOKENS), width=32, blocks=2, expansion=2))
    trainer = Trainer(network, targets)
    counts = torch.full((4,), 200)
    steps = []
    for step in range(60):
        for optimizer in (trainer.muon, trainer.adamw):
            set_rate(optimizer, 2e-3 * (step + 1) / 300)
        steps.append(trainer.step(features, counts, texts, mmi=step >= 30))
    assert steps[-1]["ctc"] < 0.5 * steps[0]["ctc"]
    criterion = [step["ctc"] + step["all"] for step in steps[30:]]  # less the trigram, a constant
    assert criterion[-1] < criterion[0] - 0.3


def test_views_that_agree_cost_nothing_and_padding_counts_for_nothing() -> None:
    torch.manual_seed(0)
    one, other = torch.randn(2, 3, 5, 4).log_softmax(-1)
    counts = torch.tensor([5, 2, 4]).repeat(2)
    assert disagreement(torch.cat([one, one]), counts).abs() < 1e-5
    apart = disagreement(torch.cat([one, other]), counts)
    within = torch.arange(5)[None, :] < counts[:3, None]
    by_hand = ((one.exp() - other.exp()) * (one - other)).sum(-1)[within].sum()
    assert torch.allclose(apart, by_hand)


def test_each_view_moves_towards_the_other() -> None:
    scores = torch.tensor([[[2.0, 0.0]], [[0.0, 2.0]]], requires_grad=True)
    disagreement(scores.log_softmax(-1), torch.tensor([1, 1])).backward()
    assert scores.grad is not None
    assert scores.grad[0, 0, 0] > 0.1 and scores.grad[1, 0, 0] < -0.1
