"""Punctuation and case of recognised words by a CT-Transformer, and their sentences.

A recording is read in overlapping windows of the length that the network was trained on, each word
as often as the model says (`windows.py`); or on from each full stop, as FunASR reads
(`sentence_cache.py`). The bundled model also reads how long the speaker paused after each word
(`pauses.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from pipeline.errors import ModelError, printable
from pipeline.records import Sentence, Word
from pipeline.stage import Inputs, Stage
from stages.compute import NetworkParameters
from stages.models import ModelFolder, WithNetwork
from stages.punctuation.casing import capitalised, read_lexicon, written
from stages.punctuation.ct_transformer import CtTransformer, CtTransformerConfig
from stages.punctuation.marks import MarkSet, decide
from stages.punctuation.pauses import CLASSES, intervals, pause_classes, usual_ms
from stages.punctuation.segmenting import Segment, check_segmenter, read_segmenter, tokenise
from stages.punctuation.sentence_cache import read_on
from stages.punctuation.vocabulary import Vocabulary
from stages.punctuation.windows import read_windows
from stages.weightless import without_weights

DEFAULT_WINDOW = 128  # words; a model says otherwise under model_conf.window


class PunctuationParameters(NetworkParameters):
    model: str = Field(
        "bundled/ct-transformer-en",
        description="bundled/NAME, or a folder in FunASR's CT-Transformer layout",
    )
    reading: Literal["windows", "sentences"] = Field(
        "windows",
        description="in overlapping windows; or on from each full stop, as FunASR reads, with "
        "nothing but the model's marks (pauses and lengths then do not count)",
    )
    chinese_words: bool = Field(
        True,
        description="find the words of Chinese text for a model that reads words (it comes with a "
        "jieba_usr_dict; needs hansard[zh])",
    )
    sentence_pause: int = Field(
        1500, ge=0, description="a pause of at least this many ms always ends a sentence"
    )
    max_words: int = Field(
        120, ge=4, description="a longer sentence is cut where a mark is likeliest"
    )
    batch_size: int = Field(
        32, ge=1, description="windows of words a forward pass; never changes the result"
    )


@dataclass(frozen=True)
class Punctuator:
    """A loaded model folder. `full_stop` is the class that ends a sentence that lacks an end;
    `readings` are the windows in which a word is read: with 1, only the deepest one counts."""

    network: CtTransformer
    vocabulary: Vocabulary
    marks: MarkSet
    lexicon: dict[str, str]
    window: int
    readings: int
    full_stop: int
    segment: Segment | None

    @classmethod
    def read(
        cls, folder: ModelFolder, chinese_words: bool = True, device: str | torch.device = "cpu"
    ) -> Punctuator:
        """ModelError where a file is missing, or of another model; the network is in evaluation
        mode."""
        config = folder.config()
        tokens = folder.file("tokens.json")
        where = printable(str(folder.path))
        try:
            model = config["model_conf"]
            vocabulary = Vocabulary.read(tokens, model.get("suffix_buckets", 0))
            sizes = CtTransformerConfig.from_yaml(config, len(vocabulary))
            marks = MarkSet(sizes.punc_list)
            if sizes.pause_classes not in (0, CLASSES):
                raise ValueError(f"pause_classes is {sizes.pause_classes}, not {CLASSES} or 0")
            with without_weights():
                network = CtTransformer(sizes)
            network.load_state_dict(folder.state_dict(), assign=True)
        except KeyError as missing:
            raise ModelError(f"{where}/config.yaml: {missing} is missing") from None
        except ValueError as error:
            raise ModelError(f"{where}: {error}") from None
        except RuntimeError as error:
            reason = str(error).splitlines()[1:2] or [str(error)]
            raise ModelError(f"{where}: not a CT-Transformer: {reason[0].strip()}") from None
        return cls(
            network=network.eval().to(device),
            vocabulary=vocabulary,
            marks=marks,
            lexicon=read_lexicon(folder.path / "casing.json"),
            window=model.get("window", DEFAULT_WINDOW),
            readings=model.get("readings", 1),
            full_stop=model.get("sentence_end_id", int(marks.ends[0])),
            segment=read_segmenter(folder.path) if chinese_words else None,
        )

    def read_on(self, words: Sequence[str]) -> NDArray[np.intp]:
        """The class of mark after each word, int [N], read as FunASR does; N >= 1."""
        tokens, word_of = tokenise(words, self.segment)
        ends = np.array([mark in (".", "?") for mark in self.marks.ascii])
        commas = np.array([symbol in ("\uff0c", ",") for symbol in self.marks.symbols])
        rows = self.vocabulary.rows(tokens)
        found = read_on(self._likeliest, rows, ends, commas, self.full_stop)
        chosen = np.full(len(words), int(np.flatnonzero(~self.marks.is_mark)[-1]))
        chosen[word_of] = found
        return chosen

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return self.network.embed.weight.device

    @torch.inference_mode()
    def _likeliest(self, rows: NDArray[np.int64]) -> NDArray[np.intp]:
        tokens = torch.from_numpy(rows)[None].to(self.device)
        marks, _ = self.network(tokens, torch.tensor([len(rows)]))
        likeliest: NDArray[np.intp] = marks[0].argmax(dim=-1).cpu().numpy()
        return likeliest

    def scores(
        self, words: Sequence[Word], batch_size: int
    ) -> tuple[NDArray[np.float32], NDArray[np.intp] | None]:
        """Mean log-probabilities of the marks [N, P], and the likeliest case of each word [N]
        (None without a case head). N >= 1."""
        texts = [word.text for word in words]
        rows = self.vocabulary.rows(texts)
        pauses = pause_classes(intervals(words), usual_ms(texts))
        both = torch.from_numpy(np.stack([rows, pauses])).to(self.device)
        marks, cases = read_windows(self.network, both, self.window, self.readings, batch_size)
        return marks.numpy(), None if cases is None else cases.argmax(dim=1).numpy()

    def write(
        self, words: Sequence[str], chosen: NDArray[np.intp], cases: NDArray[np.intp] | None
    ) -> list[str]:
        """The words as they are written: cased, a sentence's first capitalised, marks attached."""
        case_list = self.network.config.case_list
        first = np.concatenate([[True], self.marks.is_end[chosen[:-1]]])
        texts = []
        for index, (word, mark) in enumerate(zip(words, chosen.tolist(), strict=True)):
            case = "" if cases is None else case_list[cases[index]]
            text = written(word, case, self.lexicon)
            text = capitalised(text) if first[index] else text
            texts.append(text + self.marks.after(text, mark))
        return texts


class CtTransformerPunctuation(WithNetwork, Stage[PunctuationParameters, tuple[Sentence, ...]]):
    """Words as recognised to sentences; times and number of the words stay."""

    package = "stages.punctuation"
    needs: ClassVar[tuple[str, ...]] = ("asr",)
    version: ClassVar[int] = 1
    parameters_type = PunctuationParameters
    artifact_type = tuple[Sentence, ...]

    def __init__(self, parameters: PunctuationParameters) -> None:
        super().__init__(parameters)
        self._punctuator: Punctuator | None = None

    def weights_digest(self) -> str:
        folder = self.folder
        if self.parameters.chinese_words:
            check_segmenter(folder.path)
        return folder.digest()

    def load(self) -> None:
        chinese_words = self.parameters.chinese_words
        self._punctuator = Punctuator.read(self.folder, chinese_words, self.device)

    def run(self, inputs: Inputs) -> tuple[Sentence, ...]:
        """`asr` -> sentences. RuntimeError before `load`."""
        if self._punctuator is None:
            raise RuntimeError("call load() before run()")
        words: tuple[Word, ...] = inputs.artifacts["asr"]
        if not words:
            return ()
        spoken = [word.text for word in words]
        cases = None
        if self.parameters.reading == "sentences":
            chosen = self._punctuator.read_on(spoken)
        else:
            scores, cases = self._punctuator.scores(words, self.parameters.batch_size)
            pauses = pauses_after(words) >= self.parameters.sentence_pause
            chosen = decide(scores, pauses, self.parameters.max_words, self._punctuator.marks)
        texts = self._punctuator.write(spoken, chosen, cases)
        done = [
            Word(text, word.start, word.end, word.confidence)
            for text, word in zip(texts, words, strict=True)
        ]
        ends = np.flatnonzero(self._punctuator.marks.is_end[chosen]) + 1
        bounds = [0, *ends.tolist()]
        return tuple(Sentence(tuple(done[a:b])) for a, b in pairwise(bounds))


def pauses_after(words: Sequence[Word]) -> NDArray[np.int64]:
    """Silence between each word and the next in ms [N]; 0 after the last."""
    starts = np.array([word.start for word in words], np.int64)
    ends = np.array([word.end for word in words], np.int64)
    return np.append(starts[1:] - ends[:-1], 0)
