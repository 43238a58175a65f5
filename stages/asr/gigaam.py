"""GigaAM: Russian speech recognition by a Conformer with CTC, versions 1 to 3, from checkpoints as
they are published. The e2e versions write words with case and punctuation.

Source: Kutsakov et al., GigaAM (2025), section 2; the `gigaam` package and, for version 3,
`modeling_gigaam.py` of ai-sage/GigaAM-v3, to which the results are equal.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from typing import Any, Literal, TypeVar

import torch
from pydantic import Field
from torch import Tensor, nn

from pipeline.errors import ModelError, printable
from pipeline.records import Word
from pipeline.stage import SAMPLE_RATE
from stages.asr.conformer import ConformerEncoder, ConformerOptions
from stages.asr.decoders import Decoder, PeakDecoder
from stages.asr.decoding import FrameWord, greedy
from stages.asr.gigaam_checkpoint import BUFFERS, GigaAmCheckpoint, read_checkpoint
from stages.asr.pieces import read_pieces
from stages.asr.prefix import prefix_paths
from stages.asr.segments import LEAST_CONFIDENCE, AsrParameters, SegmentAsr
from stages.audio.cutting import at_least
from stages.audio.log_mel import LogMel, LogMelOptions
from stages.compute import Precision, precision_field
from stages.models import ModelFolder
from stages.precision import compute_in
from stages.weightless import without_weights

BLANK_TOKEN = "<blank>"
UNKNOWN_TEXT = "⁇"
"""What SentencePiece writes for its unknown piece."""


class GigaAm(nn.Module):
    """Frontend and encoder, which recognition and emotion share. Rows do not depend on each
    other."""

    def __init__(self, mel: LogMelOptions, encoder: ConformerOptions) -> None:
        super().__init__()
        self.preprocessor = LogMel(mel)
        self.encoder = ConformerEncoder(encoder)

    def forward(self, waveforms: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Waveforms [B, T], lengths [B] in samples, to [B, frames, d_model] (one every 40 ms) and
        the frames of each row. A row shorter than a window is read as if silence followed."""
        least = self.preprocessor.options.least
        features, frames = self.preprocessor(*at_least(least, waveforms, lengths))
        encoded, frames = self.encoder(features.to(self.encoder.dtype), frames)
        return encoded.float(), frames


class CtcHead(nn.Module):
    """Encoder output to log posteriors, the blank first (in the checkpoints it is the last)."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.decoder_layers = nn.Sequential(nn.Conv1d(width, classes, 1))

    def forward(self, encoded: Tensor) -> Tensor:
        """[B, T, width] to float32 [B, T, classes]."""
        scores: Tensor = self.decoder_layers(encoded.transpose(1, 2)).transpose(1, 2)
        return scores.float().log_softmax(dim=-1).roll(1, dims=-1)


class GigaAmCtc(GigaAm):
    """With the head for recognition."""

    def __init__(self, mel: LogMelOptions, encoder: ConformerOptions, classes: int) -> None:
        super().__init__(mel, encoder)
        self.head = CtcHead(encoder.d_model, classes)

    def posteriors(self, waveforms: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Log posteriors float32 [B, frames, classes], blank first, and the frames of each row."""
        encoded, frames = self(waveforms, lengths)
        return self.head(encoded), frames


class GigaAmParameters(AsrParameters):
    """Parameters of GigaAM recognition."""

    model: str = Field(
        "hub:ai-sage/GigaAM-v3@cec030b4c4f35d928e4a9044a3bdb29ebd499fac",
        description="hub:OWNER/NAME@REVISION, https://..., or a folder in the published layout",
    )
    decoder: Literal["greedy", "prefix"] = Field(
        "greedy", description="the best token of each frame (GigaAM's own), or the likeliest text"
    )
    beam_size: int = Field(
        16, ge=1, description="of decoder prefix: readings of a segment kept from frame to frame"
    )
    precision: Precision = precision_field()


@dataclass(frozen=True)
class GigaAmRecogniser:
    """A loaded checkpoint and a way of decoding."""

    network: GigaAmCtc
    decoder: Decoder

    @classmethod
    def read(
        cls,
        folder: ModelFolder,
        parameters: GigaAmParameters,
        device: str | torch.device = "cpu",
    ) -> GigaAmRecogniser:
        """ModelError where the folder holds something else than a GigaAM with CTC."""
        checkpoint = read_checkpoint(folder)
        head = checkpoint.section("head")
        if not str(head.get("_target_", "")).endswith("CTCHead"):
            raise ModelError(
                f"{printable(str(folder.path))}: a GigaAM without CTC "
                f"({head.get('_target_')}): only CTC models are read"
            )
        vocabulary = (BLANK_TOKEN, *read_vocabulary(checkpoint))
        if len(vocabulary) != head.get("num_classes"):
            raise ModelError(
                f"{printable(str(folder.path))}: {len(vocabulary) - 1} tokens for "
                f"{head.get('num_classes')} classes, one of them the blank"
            )
        mel, encoder = read_options(checkpoint)
        network = loaded(lambda: GigaAmCtc(mel, encoder, len(vocabulary)), checkpoint).to(device)
        compute_in(parameters.precision, device, network.encoder)
        paths = partial(prefix_paths, size=parameters.beam_size)
        found = greedy if parameters.decoder == "greedy" else paths
        return cls(network, PeakDecoder(found, vocabulary))

    @torch.inference_mode()
    def recognise(self, waveforms: Tensor, lengths: Tensor) -> list[list[Word]]:
        """See `Recognises`."""
        device = self.network.preprocessor.window.device
        log_probs, frames = self.network.posteriors(waveforms.to(device), lengths.to(device))
        frames = frames.cpu()
        found = self.decoder(log_probs.cpu().numpy(), frames.numpy())
        # GigaAM spreads the frames over the whole segment, whose last one may be a part.
        shifts = lengths * 1000 / SAMPLE_RATE / frames
        return [
            [_timed(word, shift) for word in row]
            for row, shift in zip(found, shifts.tolist(), strict=True)
        ]


def _timed(word: FrameWord, shift: float) -> Word:
    start, end = round(word.start * shift), round(word.end * shift)
    confidence = max(LEAST_CONFIDENCE, round(word.confidence, 4))
    return Word(word.text, start, max(start + 1, end), confidence)


class GigaAmAsr(SegmentAsr[GigaAmParameters]):
    """Lower-case words; of the e2e versions words with case, numbers and punctuation."""

    version = 1
    parameters_type = GigaAmParameters

    def load(self) -> None:
        self._recogniser = GigaAmRecogniser.read(self.folder, self.parameters, self.device)


def read_options(checkpoint: GigaAmCheckpoint) -> tuple[LogMelOptions, ConformerOptions]:
    """Sizes of the frontend and the encoder, from `cfg`."""
    frontend = _known(checkpoint, "preprocessor", LogMelOptions)
    encoder = _known(checkpoint, "encoder", ConformerOptions)
    try:
        mel, options = LogMelOptions(**frontend), ConformerOptions(**encoder)
        fits = options.d_model % options.n_heads == 0 and mel.features == options.feat_in
    except TypeError:
        fits = False
    if not fits:
        raise ModelError(f"{printable(str(checkpoint.folder))}: sizes in cfg that fit no GigaAM")
    return mel, options


_ONLY: Mapping[str, Any] = {
    "sample_rate": SAMPLE_RATE,
    "mel_scale": "htk",
    "mel_norm": None,
}
"""What else `cfg.preprocessor` says, and has to say."""


def _known(checkpoint: GigaAmCheckpoint, name: str, kind: type) -> dict[str, Any]:
    """The parameters of a section; ModelError for one that would change the result."""
    section = checkpoint.section(name)
    for key, only in _ONLY.items():
        if section.get(key, only) != only:
            raise ModelError(
                f"{printable(str(checkpoint.folder))}: cfg.{name}.{key}: only {only!r} is read"
            )
    known = {field.name for field in fields(kind)}
    return {key: value for key, value in section.items() if key in known}


def read_vocabulary(checkpoint: GigaAmCheckpoint) -> Sequence[str]:
    """The texts of the tokens, without the blank: letters and a space, or SentencePiece's pieces,
    of which one that begins a word has `▁` in front."""
    decoding = checkpoint.section("decoding")
    if not decoding.get("model_path"):
        return [str(letter) for letter in decoding.get("vocabulary") or ()]
    pieces = read_pieces(checkpoint.tokenizer)
    return [_piece_text(pieces, number) for number in range(len(pieces))]


def _piece_text(pieces: Any, number: int) -> str:
    if pieces.is_unknown(number):
        return UNKNOWN_TEXT
    return "" if pieces.is_control(number) else str(pieces.id_to_piece(number))


GigaAmT = TypeVar("GigaAmT", bound=GigaAm)


def loaded(make: Callable[[], GigaAmT], checkpoint: GigaAmCheckpoint) -> GigaAmT:
    """The network with the weights of the checkpoint, which may hold more. ModelError where it
    holds less, or other sizes."""
    with without_weights():
        network = make()
    network.preprocessor = LogMel(network.preprocessor.options)
    state = dict(checkpoint.state)
    try:
        missing = network.load_state_dict(state, strict=False, assign=True).missing_keys
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines()[1:2]]
        raise ModelError(f"{printable(str(checkpoint.folder))}: {''.join(lines)}") from None
    missing = [name for name in missing if name not in BUFFERS.values()]
    if missing:
        raise ModelError(
            f"{printable(str(checkpoint.folder))}: {len(missing)} weights are missing, "
            f"{missing[0]} for one"
        )
    return network.eval()
