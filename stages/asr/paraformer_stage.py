"""Recognition by a published Paraformer: the voice segments of a recording to words with times
and confidences. Network in `paraformer.py`, hotwords in `seaco.py`, words in `pieces.py`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from pipeline.errors import ModelError, UsageError, printable
from pipeline.records import Word
from pipeline.stage import Inputs
from stages.asr.cif import token_times
from stages.asr.paraformer import Paraformer, ParaformerSizes
from stages.asr.pieces import join_tokens
from stages.asr.seaco import Spelling, read_seg_dict
from stages.asr.segments import LEAST_CONFIDENCE, AsrParameters, Heard, SegmentAsr
from stages.audio.cutting import at_least
from stages.audio.features import Cmvn, Fbank, FbankOptions, load_cmvn, stack_frames
from stages.compute import Precision, precision_field
from stages.models import ModelFolder
from stages.sanm import mask
from stages.weightless import without_weights

_BIAS_PARTS = ("bias_encoder.", "seaco_decoder.", "hotword_output_layer.")


class ParaformerParameters(AsrParameters):
    """Parameters of the recognition stage."""

    model: str = Field(description="hub:OWNER/NAME@REVISION, or a folder: a published Paraformer")
    hotwords: str | tuple[str, ...] = Field(
        "",
        description="words to expect (SeACo models): separated by spaces, a list [a, b c], or the "
        "path of a .txt file with one a line; one that the model cannot spell is left out, and "
        "the transcript's notes say so",
    )
    precision: Precision = precision_field()


@dataclass(frozen=True)
class Layout:
    """What a model folder says before any weights are read."""

    sizes: ParaformerSizes
    fbank: FbankOptions
    lfr_m: int
    lfr_n: int
    tokens: tuple[str, ...]
    unwritten: frozenset[int]
    start: int

    @property
    def frame_ms(self) -> float:
        """How long one stacked frame stands for."""
        return self.fbank.frame_shift_ms * self.lfr_n

    @classmethod
    def read(cls, folder: ModelFolder) -> Layout:
        """ModelError names what is missing, or of another kind."""
        config = folder.config()
        listed = folder.file("tokens.json")
        where = f"{printable(str(folder.path))}/config.yaml"
        try:
            tokens = tuple(json.loads(listed.read_text(encoding="utf-8")))
            frontend = config["frontend_conf"]
            fbank = FbankOptions.from_yaml(frontend)
            features = fbank.num_mel_bins * frontend["lfr_m"]
            sizes = ParaformerSizes.from_yaml(config, features, len(tokens))
            special = _special_tokens(config)
            return cls(
                sizes,
                fbank,
                frontend["lfr_m"],
                frontend["lfr_n"],
                tokens,
                frozenset(special.values()),
                special["sos"],
            )
        except KeyError as missing:
            raise ModelError(f"{where}: {missing} is missing: not a Paraformer?") from None
        except (TypeError, ValueError) as error:
            raise ModelError(f"{where}: not a Paraformer that Hansard knows ({error})") from None


def _special_tokens(config: Mapping[str, Any]) -> dict[str, int]:
    model = {**config, **config.get("model_conf", {})}
    return {
        "blank": model.get("blank_id", 0),
        "sos": model.get("sos", 1),
        "eos": model.get("eos", 2),
    }


@dataclass(frozen=True)
class ParaformerRecogniser:
    """A loaded model folder. `hotwords` [N + 1, D], or None for recognition without any."""

    layout: Layout
    network: Paraformer
    fbank: Fbank
    cmvn: Cmvn
    hotwords: Tensor | None

    @classmethod
    def read(
        cls,
        folder: ModelFolder,
        hotwords: Sequence[Sequence[int]],
        device: str | torch.device = "cpu",
        precision: Precision = "float32",
    ) -> ParaformerRecogniser:
        """`hotwords` as token ids. ModelError where the folder's files do not fit each other."""
        layout = Layout.read(folder)
        with without_weights():
            network = Paraformer(layout.sizes)
        state = {
            f"bias.{name}" if name.startswith(_BIAS_PARTS) else name: value
            for name, value in folder.state_dict().items()
        }
        try:
            # Others than these are parts that only training needs.
            known = {name: state[name] for name in network.state_dict() if name in state}
            network.load_state_dict(known, assign=True)
            cmvn = load_cmvn(folder.file("am.mvn"))
        except RuntimeError as error:
            reason = str(error).splitlines()[1:2] or [str(error)]
            raise ModelError(
                f"{printable(str(folder.weights))}: does not fit config.yaml: {reason[0].strip()}"
            ) from None
        except ValueError as error:
            raise ModelError(str(error)) from None
        network.eval().requires_grad_(False).to(device)
        network.compute_in(precision, device)
        biased = network.represent(hotwords, layout.start) if hotwords else None
        return cls(layout, network, Fbank(layout.fbank).to(device), cmvn.to(device), biased)

    def recognise(self, waveforms: Tensor, lengths: Tensor) -> list[list[Word]]:
        """Waveforms float32 [B, T], lengths [B] in samples, to the words of each row, in ms from
        its beginning. A row shorter than one window is read as if silence followed."""
        return [join_tokens(row) for row in self.tokens(waveforms, lengths)]

    @torch.inference_mode()
    def tokens(self, waveforms: Tensor, lengths: Tensor) -> list[list[Word]]:
        """The same as tokens, as the model spells them."""
        features, frames = self.features(waveforms, lengths)
        found = self.network(features, frames, self.layout.frame_ms, self.hotwords).cpu()
        unwritten = torch.tensor(sorted(self.layout.unwritten))
        written = mask(found.counts, found.tokens.shape[1]) & ~torch.isin(found.tokens, unwritten)
        places = found.places(written.sum(dim=1)).numpy()
        posteriors = found.scores.exp().clamp(min=LEAST_CONFIDENCE)
        rows = []
        for row, keep in enumerate(written):
            ids = found.tokens[row, keep].tolist()
            at = places[row, : len(ids) + 1]
            times = token_times(at, int(found.frames[row]), found.frame_ms).tolist()
            sure = posteriors[row, keep].tolist()
            rows.append(
                [
                    Word(self.layout.tokens[token], start, end, round(posterior, 4))
                    for token, (start, end), posterior in zip(ids, times, sure, strict=True)
                ]
            )
        return rows

    def features(self, waveforms: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """What the network reads, [B, F, M], and each row's frames [B]."""
        least, device = self.layout.fbank.frame_length, self.fbank.window.device
        waveforms, lengths = waveforms.to(device), lengths.to(device)
        features, frames = self.fbank(*at_least(least, waveforms, lengths))
        stacked, frames = stack_frames(features, frames, self.layout.lfr_m, self.layout.lfr_n)
        return self.cmvn(stacked), frames


class ParaformerAsr(SegmentAsr[ParaformerParameters]):
    """Words without punctuation."""

    version = 1
    parameters_type = ParaformerParameters

    def weights_digest(self) -> str:
        """Over a file of hotwords, too. ModelError where the model has no use for hotwords."""
        folder = self.folder
        given = read_hotwords(self.parameters.hotwords)
        if not given:
            return folder.digest()
        if Layout.read(folder).sizes.seaco is None:
            raise ModelError(
                f"{printable(str(folder.path))}: this model knows no hotwords (a SeacoParaformer "
                "does): leave asr.hotwords away"
            )
        text = "\n".join([folder.digest(), *given])
        return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"

    def load(self) -> None:
        known, _ = self._spelt()
        self._recogniser = ParaformerRecogniser.read(
            self.folder, known, self.device, self.parameters.precision
        )

    def merge(self, results: Iterable[list[Heard]], inputs: Inputs) -> tuple[Word, ...]:
        _, unknown = self._spelt()
        if unknown:
            inputs.notes.append(
                f"hotwords left out, the model has no tokens for them: {', '.join(unknown)}"
            )
        return super().merge(results, inputs)

    def _spelt(self) -> tuple[list[list[int]], list[str]]:
        """The hotwords as token ids, and those that the model cannot spell."""
        hotwords = read_hotwords(self.parameters.hotwords)
        if not hotwords:
            return [], []
        folder = self.folder
        ids = {token: at for at, token in enumerate(Layout.read(folder).tokens)}
        spelling = Spelling(ids, read_seg_dict(folder.path / "seg_dict"))
        spelt = {word: spelling.tokens(word) for word in hotwords}
        known = [tokens for tokens in spelt.values() if tokens is not None]
        return known, [word for word, tokens in spelt.items() if tokens is None]


def read_hotwords(given: str | Sequence[str]) -> list[str]:
    """The hotwords of a parameter, without blank ones and repetitions; none is no error.
    UsageError where a file of them cannot be read.

    >>> read_hotwords("通义 阿里巴巴  通义"), read_hotwords(["New York", " "]), read_hotwords("")
    (['通义', '阿里巴巴'], ['New York'], [])
    """
    if isinstance(given, str) and given.strip().endswith(".txt"):
        try:
            lines: Sequence[str] = Path(given.strip()).expanduser().read_text("utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"asr.hotwords: {printable(given)}: cannot be read: {error}") from None
    else:
        lines = given.split() if isinstance(given, str) else given
    return list(dict.fromkeys(" ".join(line.split()) for line in lines if line.strip()))
