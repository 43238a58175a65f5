"""CTC speech recognition: the voice segments of a recording to words with times and
confidences. Network in `ctc_network.py`, ways of decoding in `decoders.py`."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from pipeline.errors import ModelError
from pipeline.records import Word
from stages.asr.arpa import read_arpa
from stages.asr.ctc_network import FRAME_MS, CtcNetwork, NetworkOptions
from stages.asr.decoders import Decoder, LetterDecoder, LexiconDecoder
from stages.asr.decoding import FrameWord, greedy
from stages.asr.lexicon import Lexicon, read_pronunciations
from stages.asr.ngram import NgramModel
from stages.asr.prefix import prefix_paths
from stages.asr.segments import LEAST_CONFIDENCE, AsrParameters, SegmentAsr
from stages.audio.cutting import at_least
from stages.audio.features import Fbank, FbankOptions
from stages.models import ModelFolder, locate

# Frame t of the network is centred 40 t + 12.5 ms into the segment, so it begins 8 ms before
# 40 t. How far emissions lag behind the sound is measured by the recipe: `onset_ms`.
_FRAME_START_MS = -8

BUNDLED_LM = "bundled/en-lm"


class CtcParameters(AsrParameters):
    """Parameters of the recognition stage."""

    model: str = Field("bundled/en-ctc", description="bundled/NAME, or a model folder")
    decoder: Literal["greedy", "prefix", "beam"] = Field(
        "beam",
        description="the best token of each frame, the likeliest letters, or the best words by "
        "lexicon and language model",
    )
    language_model: str = Field(
        BUNDLED_LM,
        description="of decoder beam: bundled/NAME, or a folder with an .arpa or .arpa.gz file",
    )
    rescoring: str = Field(
        "auto",
        description="of decoder beam: the neural language model by which a segment's words are "
        "chosen anew, bundled/NAME or a folder; none; or auto: bundled/en-nlm beside bundled/en-lm",
    )
    rescoring_weight: float = Field(
        0.6, gt=0, lt=1, description="what it counts in log P(word), beside the other model"
    )
    lm_weight: float = Field(
        1.3, ge=0, description="of decoder beam: what log P(word) counts against the sound"
    )
    word_score: float = Field(
        0.2, description="of decoder beam: added for each word; higher gives more, shorter words"
    )
    beam_size: int = Field(
        400,
        ge=1,
        description="of decoders prefix and beam: readings of a segment kept from frame to frame",
    )

    @property
    def language_models(self) -> tuple[str, str | None]:
        """What the beam search goes by, and by what its words are chosen anew."""
        if self.rescoring == "none":
            return self.language_model, None
        if self.rescoring == "auto":
            known = self.language_model == BUNDLED_LM
            return self.language_model, "bundled/en-nlm" if known else None
        return self.language_model, self.rescoring


@dataclass(frozen=True)
class Recogniser:
    """A loaded model folder and a way of decoding. `onset_ms` is added to every word's start."""

    network: CtcNetwork
    fbank: Fbank
    decoder: Decoder
    onset_ms: int

    @classmethod
    def read(
        cls,
        folder: ModelFolder,
        parameters: CtcParameters,
        device: str | torch.device = "cpu",
    ) -> Recogniser:
        """ModelError where the folder holds another kind of model, or one that the chosen
        decoder cannot serve."""
        config = folder.config()
        try:
            network = CtcNetwork(NetworkOptions(**config["network"])).eval()
            network.load_state_dict(folder.state_dict())
            fbank = Fbank(FbankOptions(**config["frontend"]))
            onset_ms, tail = int(config["onset_ms"]), int(config["tail"])
        except (KeyError, TypeError, RuntimeError) as error:
            raise ModelError(f"{folder.path}: not a CtcNetwork model ({error})") from None
        decoder = read_decoder(folder, parameters, tail)
        return cls(network.to(device), fbank.to(device), decoder, onset_ms)

    @torch.inference_mode()
    def recognise(self, waveforms: Tensor, lengths: Tensor) -> list[list[Word]]:
        """Waveforms float32 [B, T], lengths [B] in samples, to the words of each row, in ms from
        its beginning. A row shorter than one window is read as if silence followed."""
        least = self.fbank.options.frame_length
        waveforms = waveforms.to(self.fbank.window.device)
        features, frames = self.fbank(*at_least(least, waveforms, lengths))
        log_probs, frames = self.network(features, frames)
        found = self.decoder(log_probs.cpu().numpy(), frames.cpu().numpy())
        return [[self._timed(word) for word in row] for row in found]

    def _timed(self, word: FrameWord) -> Word:
        start, end = (
            at * FRAME_MS + _FRAME_START_MS + self.onset_ms for at in (word.start, word.end)
        )
        return Word(word.text, start, end, max(LEAST_CONFIDENCE, round(word.confidence, 4)))


def read_decoder(folder: ModelFolder, parameters: CtcParameters, tail: int) -> Decoder:
    """The decoder for an acoustic model. One of phones has a lexicon.txt beside its weights."""
    vocabulary = tuple(json.loads(folder.file("tokens.json").read_text()))
    pronounced = folder.path / "lexicon.txt"
    if parameters.decoder == "beam":
        from stages.asr.beam import BeamOptions, BeamSearch  # numba takes a while to load
        from stages.asr.rescoring import Rescorer

        ngrams, neural = parameters.language_models
        model = read_language_model(locate(ngrams, CtcAsr.package))
        known = read_pronunciations(pronounced) if pronounced.exists() else None
        options = BeamOptions(parameters.lm_weight, parameters.word_score, parameters.beam_size)
        rescorer = None
        if neural is not None:
            found = locate(neural, CtcAsr.package)
            rescorer = Rescorer.read(found, model, parameters.rescoring_weight)
        lexicon = Lexicon.build(model, vocabulary, known)
        search = BeamSearch(model, lexicon, options, rescorer)
        return LexiconDecoder(search, vocabulary, tail)
    if pronounced.exists():
        raise ModelError(
            f"{folder.path}: this acoustic model hears phones, not letters: set asr.decoder=beam"
        )
    prefix = partial(prefix_paths, size=parameters.beam_size)
    return LetterDecoder(greedy if parameters.decoder == "greedy" else prefix, vocabulary, tail)


def read_language_model(folder: ModelFolder) -> NgramModel:
    """Our own layout, or a folder with an ARPA file."""
    arpa = ".arpa" in folder.weights.suffixes
    return read_arpa(folder.weights) if arpa else NgramModel.read(folder)


class CtcAsr(SegmentAsr[CtcParameters]):
    """Lower-case words without punctuation."""

    version = 2
    parameters_type = CtcParameters
    cpu_batch_s = 60  # rescoring reads for all segments of a batch at once

    def weights_digest(self) -> str:
        acoustic = self.folder.digest()
        if self.parameters.decoder != "beam":
            return acoustic
        used = filter(None, self.parameters.language_models)
        digests = [locate(each, self.package).digest() for each in used]
        return f"sha256:{hashlib.sha256((acoustic + ''.join(digests)).encode()).hexdigest()}"

    def load(self) -> None:
        self._recogniser = Recogniser.read(self.folder, self.parameters, self.device)
