"""Words chosen anew by the neural language model: of all readings the best, and fewer errors in
speech of people that nothing was trained on."""

from __future__ import annotations

import math
from collections import defaultdict
from itertools import groupby, product
from pathlib import Path

import jiwer
import numpy as np
import pytest
import torch
from sentencepiece import SentencePieceProcessor, SentencePieceTrainer

from benchmarks.asr import held_out, score
from pipeline.errors import ModelError
from stages.asr.beam import BeamOptions, BeamSearch
from stages.asr.lexicon import Lexicon
from stages.asr.neural_lm import PIECES, SENTENCE, NeuralLm, NeuralLmSizes, load_neural_lm
from stages.asr.ngram import BEGIN
from stages.asr.rescoring import Rescorer
from stages.asr.stage import CtcAsr, CtcParameters
from stages.models import locate
from tests.test_beam_search import PHONES, WORDS, drawn_model, drawn_posteriors, found_by, parses
from training.neural_lm import LENGTH, SHARES, SIZES, Batches, begin

BUNDLED = "bundled/en-nlm"


@pytest.fixture(scope="module")
def pieces(tmp_path_factory: pytest.TempPathFactory) -> SentencePieceProcessor:
    """Some words are one piece, some are two."""
    path = tmp_path_factory.mktemp("pieces") / PIECES
    SentencePieceTrainer.train(
        sentence_iterator=iter([*WORDS, WORDS[0]] * 5),
        model_prefix=str(path.with_suffix("")),
        vocab_size=9,
        model_type="bpe",
        unk_id=0,
        bos_id=SENTENCE,
        eos_id=-1,
        minloglevel=2,
    )
    return SentencePieceProcessor(model_file=str(path))


def drawn_network(seed: int, pieces: int) -> NeuralLm:
    torch.manual_seed(seed)
    network = NeuralLm(NeuralLmSizes(pieces, width=6, hidden=8, units=5, layers=2))
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.7)
    return network.eval()


@torch.inference_mode()
def log_probs(network: NeuralLm, pieces: SentencePieceProcessor, words: list[str]) -> list[float]:
    """log P of each word after those before it, all read at once."""
    spelled = [pieces.encode(word) for word in words]
    row = torch.tensor([[SENTENCE, *(piece for word in spelled for piece in word)]])
    logits, _ = network(row, network.nothing(1))
    found = logits[0, :-1].log_softmax(-1).gather(1, row[0, 1:, None])[:, 0].tolist()
    return [sum(found.pop(0) for _ in word) for word in spelled]


def test_a_history_is_the_same_read_at_once_or_piece_by_piece() -> None:
    network = drawn_network(3, 9)
    row = torch.randint(0, 9, (2, 11), generator=torch.Generator().manual_seed(1))
    whole, after = network(row, network.nothing(2))
    state, steps = network.nothing(2), []
    for column in row.split(1, dim=1):
        logits, state = network(column, state)
        steps.append(logits)
    torch.testing.assert_close(torch.cat(steps, dim=1), whole)
    torch.testing.assert_close(state, after)


def worth(rescorer: Rescorer, options: BeamOptions, words: list[int], sound: float) -> float:
    model, total, history = rescorer.model, sound, np.array([BEGIN])
    neural = log_probs(rescorer.network, rescorer.pieces, [model.words[word] for word in words])
    for word, log_prob in zip(words, neural, strict=True):
        ngram, history = model.score(history, np.array([word]))
        mixed = rescorer.weight * math.exp(log_prob) + (1 - rescorer.weight) * math.exp(ngram[0])
        total += options.lm_weight * math.log(mixed) + options.word_score
    return total


def test_of_all_readings_the_best_is_found(pieces: SentencePieceProcessor) -> None:
    """But where the search forgot it: for a trigram's history it knows one beginning of a word."""
    hits = 0
    for seed in range(12):
        rng = np.random.default_rng(seed)
        model = drawn_model(rng, len(WORDS), 3)
        rescorer = Rescorer(drawn_network(seed, len(pieces)), pieces, model, 0.6)
        options = BeamOptions(0.7, 0.5, size=10_000, margin=math.inf, tokens=len(PHONES))
        lexicon = Lexicon.build(model, PHONES, {word: [list(word)] for word in WORDS})
        row = drawn_posteriors(rng, 6, len(PHONES))
        spelled = [(tuple(map(PHONES.index, word)), model.words.index(word)) for word in WORDS]
        best = defaultdict[tuple[int, ...], float](lambda: -math.inf)
        for path in product(range(len(PHONES)), repeat=len(row)):
            sequence = tuple(token for token, _ in groupby(path) if token)
            best[sequence] = max(best[sequence], float(row[range(len(row)), path].sum()))
        readings = [
            (worth(rescorer, options, words, sound), words)
            for sequence, sound in best.items()
            for words in parses(sequence, spelled)
            if words
        ]
        path, words = found_by(BeamSearch(model, lexicon, options, rescorer), row)
        sequence = tuple(token for token, _ in groupby(path) if token)
        assert words in list(parses(sequence, spelled)), "a path that says something else"
        sound = float(row[range(len(row)), path].sum())
        assert worth(rescorer, options, words, sound) <= max(readings)[0] + 1e-4
        hits += words == max(readings)[1]
    assert hits >= 10


def test_rows_do_not_depend_on_their_neighbours(pieces: SentencePieceProcessor) -> None:
    rng = np.random.default_rng(5)
    model = drawn_model(rng, len(WORDS), 3)
    rescorer = Rescorer(drawn_network(5, len(pieces)), pieces, model, 0.6)
    lexicon = Lexicon.build(model, PHONES, {word: [list(word)] for word in WORDS})
    search = BeamSearch(model, lexicon, BeamOptions(0.7, 0.5, size=50), rescorer)
    rows = np.stack([drawn_posteriors(rng, 30, len(PHONES)) for _ in range(4)])
    rows[2] = math.nan  # nothing in it
    lengths = np.array([30, 17, 30, 1])
    together = search.best_paths(rows, lengths)
    for row, length in enumerate(lengths.tolist()):
        alone = search.best_paths(rows[row : row + 1, :length], lengths[row : row + 1])
        assert (together.tokens[row, :length] == alone.tokens[0]).all()
        assert (together.words[row, :length] == alone.words[0]).all()


# the bundled weights ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("likely", "unlikely"),
    [
        (
            "the court will hear the argument next week",
            "the court will here the argument next week",
        ),
        ("they left their coats in the hall", "they left there coats in the hall"),
        ("we have two remote controls to design", "we have to remote controls two design"),
        ("the king sent his son to the war", "the king cent his sun to the wore"),
    ],
)
def test_of_words_that_sound_alike_it_knows_which(likely: str, unlikely: str) -> None:
    rescorer = Rescorer.read(locate(BUNDLED, "stages.asr"), NO_TRIGRAM, 0.5)
    sums = [
        sum(log_probs(rescorer.network, rescorer.pieces, text.split()))
        for text in (likely, unlikely)
    ]
    assert sums[0] > sums[1] + 1


NO_TRIGRAM = drawn_model(np.random.default_rng(0), len(WORDS), 1)


def test_it_hears_more_of_what_strangers_read(shared_data: Path) -> None:
    """Sixty utterances of three readers; in the whole test set a fifth of the words was wrong."""
    utterances = held_out(shared_data, "asr-en-dev-clean", 60)
    errors = {}
    for rescoring in ("none", BUNDLED):
        stage = CtcAsr(CtcParameters(rescoring=rescoring))
        stage.load()
        found = score(stage, utterances)
        errors[rescoring] = jiwer.wer(found.reference, found.heard)
    assert errors[BUNDLED] < 0.95 * errors["none"]
    assert errors[BUNDLED] < 0.2


def test_a_folder_of_another_kind_is_named() -> None:
    with pytest.raises(ModelError, match=r"en-lm: not a NeuralLm"):
        load_neural_lm(locate("bundled/en-lm", "stages.asr"))
    stage = CtcAsr(CtcParameters(rescoring="bundled/en-lm"))
    with pytest.raises(ModelError, match="en-lm"):
        stage.load()


# the recipe -------------------------------------------------------------------------------


def test_batches_begin_with_sentences_of_the_texts_in_their_shares() -> None:
    """Each text has a piece of its own."""
    rows = {
        name: np.tile(np.array([SENTENCE, number, number], np.uint16), 200)
        for number, name in enumerate(SHARES, start=2)
    }
    batches = Batches(rows, (0, 0))
    drawn = torch.cat([batches.draw() for _ in range(30)])
    assert drawn.shape[1] == LENGTH + 1
    assert (drawn[:, 0] == SENTENCE).all()
    for number, share in enumerate(SHARES.values(), start=2):
        assert (drawn[:, 1] == number).float().mean().item() == pytest.approx(share, abs=0.03)


def test_before_training_every_piece_is_about_as_likely() -> None:
    network = begin().eval()
    row = torch.randint(0, SIZES.pieces, (4, 50), generator=torch.Generator().manual_seed(0))
    logits, _ = network(row[:, :-1], network.nothing(4))
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), row[:, 1:].flatten())
    assert loss.item() == pytest.approx(math.log(SIZES.pieces), abs=0.4)
