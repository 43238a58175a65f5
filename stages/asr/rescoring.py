"""The words of a segment chosen anew, by a neural language model beside the trigram: over the word
graph that the beam search leaves, with as much of the past as a sentence has.

Source: Sundermeyer, Tüske, Schlüter and Ney, Lattice decoding and rescoring with long-span neural
network language models (2014), push-forward with recombination; the models are mixed linearly.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, groupby, product
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from stages.asr.decoding import BLANK
from stages.asr.neural_lm import PIECES, SENTENCE, NeuralLm, State, load_neural_lm
from stages.asr.ngram import BEGIN, NgramModel
from stages.asr.pieces import read_pieces
from stages.asr.word_graph import WordGraph
from stages.models import ModelFolder

if TYPE_CHECKING:
    from sentencepiece import SentencePieceProcessor

KEPT, MARGIN = 8, 8.0  # readings that go on from a frame, and how far behind the best
ALIKE = 4  # readings with so many last words in common are one


class History:
    """Pieces that were said. What may follow is known once the network has read the last one,
    `piece`, in the state `before` it."""

    __slots__ = ("_following", "_log_probs", "before", "piece", "state")

    def __init__(self, piece: int, before: State) -> None:
        self.piece = piece
        self.before = before
        self.state: State | None = None
        self._log_probs: NDArray[np.float32] = np.zeros(0, np.float32)
        self._following: dict[int, History] = {}

    def learn(self, state: State, log_probs: NDArray[np.float32]) -> None:
        self.state, self._log_probs = state, log_probs

    def after(self, pieces: Iterable[int]) -> History:
        """With more pieces, of which all but the last have been read."""
        history = self
        for piece in pieces:
            if piece not in history._following:
                assert history.state is not None
                history._following[piece] = History(piece, history.state)
            history = history._following[piece]
        return history

    def log_prob(self, pieces: Sequence[int]) -> float:
        """log P(pieces), of which all but the last have been read."""
        parts = (self.after(pieces[:at])._log_probs[piece] for at, piece in enumerate(pieces))
        return float(sum(parts))


Trace = tuple[int, "Trace"] | None  # arcs of a word graph, the last one first
Unread = Collection[History]  # what the network has to read before a row goes on
Chances = dict[tuple[int, int], tuple[float, History, int]]


class Reading(NamedTuple):
    """Words from the beginning of a segment to some frame."""

    score: float
    history: History
    ngram: int
    last_token: int
    last_words: tuple[int, ...]
    trace: Trace


@dataclass(frozen=True)
class Rescorer:
    """`weight` is that of the neural model's P(word), the rest the trigram's. Threads may share
    one."""

    network: NeuralLm
    pieces: SentencePieceProcessor
    model: NgramModel
    weight: float

    @classmethod
    def read(cls, folder: ModelFolder, model: NgramModel, weight: float) -> Rescorer:
        """ModelError where the folder holds another kind of model."""
        return cls(load_neural_lm(folder), read_pieces(folder.file(PIECES)), model, weight)

    def best(
        self, graphs: Sequence[WordGraph], lm_weight: float, word_score: float
    ) -> list[list[int]]:
        """The arcs of the best reading of each graph, none where no reading comes to its end. The
        graphs go on side by side, so that the network reads for several at once."""
        best: list[list[int]] = [[] for _ in graphs]
        rows = [(row, self._row(graph, lm_weight, word_score)) for row, graph in enumerate(graphs)]
        while rows:
            asked: dict[History, None] = {}
            going = []
            for row, steps in rows:
                try:
                    asked |= dict.fromkeys(next(steps))
                    going.append((row, steps))
                except StopIteration as stop:
                    best[row] = stop.value
            self._read(list(asked))
            rows = going
        return best

    def _row(
        self, graph: WordGraph, lm_weight: float, word_score: float
    ) -> Generator[Unread, None, list[int]]:
        reached: defaultdict[int, dict[tuple[int, ...], Reading]] = defaultdict(dict)
        reached[0][()] = Reading(
            0.0, History(SENTENCE, self.network.nothing(1)), BEGIN, BLANK, (), None
        )
        words, ends = graph.words.tolist(), graph.ends.tolist()
        unique = list(dict.fromkeys(words))
        pieces = self.pieces.encode([self.model.words[word] for word in unique])
        spelled = dict(zip(unique, pieces, strict=True))
        firsts, lasts = graph.firsts.tolist(), graph.lasts.tolist()
        for frame, group in groupby(range(len(words)), graph.starts.tolist().__getitem__):
            readings = _best(reached.pop(frame, {}).values(), KEPT)
            if any(reading.history.state is None for reading in readings):
                # With them what later frames will ask for: few questions at once cost as much.
                later = (_best(others.values(), KEPT) for others in reached.values())
                asked = chain(readings, *later)
                yield [reading.history for reading in asked if reading.history.state is None]
            arcs = list(group)
            following = {words[arc]: spelled[words[arc]] for arc in arcs}
            chances = yield from self._chances(readings, following)
            for number, reading in enumerate(readings):
                for arc in arcs:
                    if reading.last_token == firsts[arc] != BLANK:
                        continue  # a token after itself needs a blank between
                    log_prob, history, ngram = chances[number, words[arc]]
                    score = reading.score + graph.sounds[arc] + lm_weight * log_prob + word_score
                    said = (*reading.last_words, words[arc])[-ALIKE:]
                    others, same = reached[ends[arc]], (*said, lasts[arc])
                    if same not in others or others[same].score < score:
                        trace = (arc, reading.trace)
                        others[same] = Reading(score, history, ngram, lasts[arc], said, trace)
        # Words that need a blank between may leave no way to the end.
        final = _best(reached[max(ends)].values(), 1)
        return [arc for reading in final for arc in _arcs(reading.trace)]

    def _chances(
        self, readings: Sequence[Reading], spelled: Mapping[int, Sequence[int]]
    ) -> Generator[Unread, None, Chances]:
        """Of every reading (whose history has been read), by its number, and every word after it,
        `spelled` in pieces: log P(word), and the history of either model after it."""
        depth = 1
        while longer := [pieces for pieces in spelled.values() if len(pieces) > depth]:
            heads = {tuple(pieces[:depth]) for pieces in longer}
            histories = (r.history.after(head) for r in readings for head in sorted(heads))
            if unread := [history for history in histories if history.state is None]:
                yield unread
            depth += 1
        before = np.repeat([reading.ngram for reading in readings], len(spelled)).astype(np.int64)
        ngrams, after = self.model.score(before, np.tile(list(spelled), len(readings)))
        neural = [r.history.log_prob(pieces) for r in readings for pieces in spelled.values()]
        mixed = np.logaddexp(
            np.log(self.weight) + np.array(neural), np.log1p(-self.weight) + ngrams
        )
        pairs = product(enumerate(readings), spelled.items())
        return {
            (number, word): (log_prob, reading.history.after(pieces), ngram)
            for ((number, reading), (word, pieces)), log_prob, ngram in zip(
                pairs, mixed.tolist(), after.tolist(), strict=True
            )
        }

    @torch.inference_mode()
    def _read(self, histories: Sequence[History]) -> None:
        if not histories:
            return
        before = zip(*(history.before for history in histories), strict=True)
        together = State(*(torch.cat(parts) for parts in before))
        pieces = torch.tensor([[history.piece] for history in histories])
        logits, after = self.network(pieces, together)
        log_probs = logits[:, 0].log_softmax(dim=-1).numpy()
        for row, history in enumerate(histories):
            own = State(*(part[row : row + 1].clone() for part in after))
            history.learn(own, log_probs[row].copy())


def _best(readings: Iterable[Reading], count: int) -> list[Reading]:
    ranked = sorted(readings, key=lambda reading: -reading.score)[:count]
    return [reading for reading in ranked if reading.score > ranked[0].score - MARGIN]


def _arcs(trace: Trace) -> list[int]:
    arcs: list[int] = []
    while trace is not None:
        arc, trace = trace
        arcs.append(arc)
    return arcs[::-1]
