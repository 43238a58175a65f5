"""Paraformer: all tokens of a segment at once, by a SAN-M encoder, a CIF predictor and a SAN-M
decoder; the BiCif predictor gives finer times. Parameter names as in FunASR's checkpoints.

Sources: Gao et al., Paraformer (Interspeech 2022); Shi et al., Achieving Timestamp Prediction
While Recognizing with Non-autoregressive End-to-end ASR Model (2023) for BiCif.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from stages.asr.cif import ALMOST_ONE, fire_frames, integrate
from stages.asr.paraformer_decoder import DecoderSizes, ParaformerDecoder
from stages.asr.seaco import HotwordBias, SeacoSizes
from stages.compute import Precision
from stages.precision import compute_in
from stages.sanm import SanmEncoder, SanmSizes, mask


@dataclass(frozen=True)
class PredictorSizes:
    """`predictor_conf` under FunASR's names. `upsample_times` 0: no separate times (V2)."""

    size: int
    l_order: int
    r_order: int
    tail_threshold: float
    smooth_factor: float
    noise_threshold: float
    upsample_times: int
    upsample_type: str
    use_cif1_cnn: bool
    smooth_factor2: float
    noise_threshold2: float

    @classmethod
    def from_yaml(cls, kind: str, conf: Mapping[str, Any], size: int) -> PredictorSizes:
        """Of a `predictor` and its `predictor_conf`. KeyError where a key is missing, ValueError
        for a variant that no published model has."""
        if kind not in ("CifPredictorV2", "CifPredictorV3"):
            raise ValueError(f"predictor {kind}")
        if conf.get("threshold", 1.0) != 1.0 or conf["tail_threshold"] <= 0:
            raise ValueError("predictor_conf: threshold 1 and a tail_threshold above 0 expected")
        if conf.get("upsample_type") == "cnn_attn":
            raise ValueError("predictor_conf: upsample_type cnn_attn")
        return cls(
            size=size,
            l_order=conf["l_order"],
            r_order=conf["r_order"],
            tail_threshold=conf["tail_threshold"],
            smooth_factor=conf.get("smooth_factor", 1.0),
            noise_threshold=conf.get("noise_threshold", 0.0),
            upsample_times=conf.get("upsample_times", 5) if kind == "CifPredictorV3" else 0,
            upsample_type=conf.get("upsample_type", "cnn"),
            use_cif1_cnn=conf.get("use_cif1_cnn", True),
            smooth_factor2=conf.get("smooth_factor2", 1.0),
            noise_threshold2=conf.get("noise_threshold2", 0.0),
        )


@dataclass(frozen=True)
class ParaformerSizes:
    """The network part of a published `config.yaml`. `seaco` None: no hotword biasing."""

    encoder: SanmSizes
    predictor: PredictorSizes
    decoder: DecoderSizes
    seaco: SeacoSizes | None

    @classmethod
    def from_yaml(cls, config: Mapping[str, Any], features: int, tokens: int) -> ParaformerSizes:
        """Of a config.yaml, for that many features a frame and tokens. KeyError and ValueError
        as in `PredictorSizes.from_yaml`."""
        kind = config.get("model")
        if kind not in ("Paraformer", "BiCifParaformer", "SeacoParaformer"):
            raise ValueError(f"model {kind}")
        if config["encoder"] != "SANMEncoder" or config["decoder"] != "ParaformerSANMDecoder":
            raise ValueError(f"encoder {config['encoder']}, decoder {config['decoder']}")
        encoder = SanmSizes.from_yaml(config["encoder_conf"], features)
        size = encoder.output_size
        return cls(
            encoder=encoder,
            predictor=PredictorSizes.from_yaml(config["predictor"], config["predictor_conf"], size),
            decoder=DecoderSizes.from_yaml(config["decoder_conf"], size, tokens),
            seaco=SeacoSizes.from_yaml(config, tokens) if kind == "SeacoParaformer" else None,
        )


@dataclass(frozen=True)
class Recognised:
    """A batch of segments: token ids and log-probabilities [B, K], of which `counts` [B] count;
    `alphas` float32 [B, T'] with `frames` [B] of `frame_ms` ms each, and the `threshold` at
    which they fire, for the times."""

    tokens: Tensor
    scores: Tensor
    counts: Tensor
    alphas: Tensor
    frames: Tensor
    frame_ms: float
    threshold: float

    def places(self, spoken: Tensor) -> Tensor:
        """For rows with `spoken` [B] tokens that are written: where each begins and the last
        ends, in frames; see `fire_frames`."""
        return fire_frames(self.alphas, spoken, self.threshold)

    def cpu(self) -> Recognised:
        """The same on the CPU."""
        return Recognised(
            self.tokens.cpu(),
            self.scores.cpu(),
            self.counts.cpu(),
            self.alphas.cpu(),
            self.frames.cpu(),
            self.frame_ms,
            self.threshold,
        )


class Paraformer(nn.Module):
    """Features to tokens. A row's result does not depend on its padding."""

    def __init__(self, sizes: ParaformerSizes) -> None:
        super().__init__()
        self.encoder = SanmEncoder(sizes.encoder)
        self.predictor = Predictor(sizes.predictor)
        self.decoder = ParaformerDecoder(sizes.decoder)
        self.bias: HotwordBias | None = HotwordBias(sizes.seaco) if sizes.seaco else None

    def forward(
        self, features: Tensor, lengths: Tensor, frame_ms: float, hotwords: Tensor | None = None
    ) -> Recognised:
        """Stacked, normalised features [B, T, F] of `frame_ms` ms, lengths [B] >= 1; `hotwords`
        as `HotwordBias.represent` gives them."""
        keep = mask(lengths, features.shape[1])[..., None]
        encoded = self.encoder(features.to(self.dtype), lengths) * keep
        alphas, fine, embedded, counts = self.predictor(encoded.float(), lengths)
        embedded = embedded.to(self.dtype)
        hidden = self.decoder(embedded, counts, encoded, lengths)
        scores = self.decoder.output_layer(hidden).float().log_softmax(dim=-1)
        if hotwords is not None and self.bias is not None:
            scores = self.bias(scores, embedded.float(), hidden.float(), counts, hotwords)
        best, tokens = scores.max(dim=-1)
        if fine is None:
            return Recognised(tokens, best, counts, alphas, lengths + 1, frame_ms, 1.0)
        times = self.predictor.sizes.upsample_times
        fine = fine * (counts / fine.sum(dim=1).clamp(min=1e-12))[:, None]
        frames = lengths * times
        return Recognised(tokens, best, counts, fine, frames, frame_ms / times, ALMOST_ONE)

    def represent(self, hotwords: Sequence[Sequence[int]], start: int) -> Tensor:
        """Hotwords, as token ids, for `forward`; `start` is the token that begins a sentence."""
        if self.bias is None:
            raise ValueError("this network has no hotword biasing")
        return self.bias.represent(self.decoder.embed, hotwords, start)

    def compute_in(self, precision: Precision, device: str | torch.device) -> None:
        """Lets the encoder and the decoder, which are nearly all of the work, compute so. The sums
        of the predictor and the few hotwords stay in float32."""
        compute_in(precision, device, self.encoder, self.decoder)

    @property
    def dtype(self) -> torch.dtype:
        """In which the encoder and the decoder compute."""
        dtype: torch.dtype = self.encoder.after_norm.weight.dtype
        return dtype


class Predictor(nn.Module):
    """CIF predictor, V2, or V3 with a second head that is finer in time."""

    def __init__(self, sizes: PredictorSizes) -> None:
        super().__init__()
        size, times = sizes.size, sizes.upsample_times
        self.sizes = sizes
        self.cif_conv1d = nn.Conv1d(size, size, sizes.l_order + sizes.r_order + 1)
        self.cif_output = nn.Linear(size, 1)
        self.blstm: nn.LSTM | None = None
        if times:
            self.upsample_cnn = nn.ConvTranspose1d(size, size, times, times)
            if sizes.upsample_type == "cnn_blstm":
                self.blstm = nn.LSTM(size, size, batch_first=True, bidirectional=True)
            self.cif_output2 = nn.Linear(2 * size if self.blstm else size, 1)

    def forward(
        self, hidden: Tensor, lengths: Tensor
    ) -> tuple[Tensor, Tensor | None, Tensor, Tensor]:
        """hidden float32 [B, T, D], 0 past each of lengths [B]: alphas [B, T + 1] with the tail,
        the finer ones [B, T * upsample_times] (None in V2), and what `integrate` gives."""
        sizes = self.sizes
        context = hidden.transpose(1, 2)
        padded = nn.functional.pad(context, (sizes.l_order, sizes.r_order))
        seen = self.cif_conv1d(padded).relu()
        alphas = self.cif_output(seen.transpose(1, 2)).squeeze(-1).sigmoid()
        alphas = (alphas * sizes.smooth_factor - sizes.noise_threshold).relu()
        keep = mask(lengths, hidden.shape[1])
        # The tail: a last token that is almost complete when the sound ends counts.
        alphas = nn.functional.pad(alphas * keep, (0, 1))
        alphas = alphas.scatter(1, lengths[:, None], sizes.tail_threshold)
        fine = None
        if sizes.upsample_times:
            fine = self.fine(seen if sizes.use_cif1_cnn else context, lengths)
        return alphas, fine, *integrate(nn.functional.pad(hidden, (0, 0, 0, 1)), alphas)

    def fine(self, context: Tensor, lengths: Tensor) -> Tensor:
        """[B, D, T] to weights [B, T * upsample_times], 0 past each row's end."""
        sizes = self.sizes
        x = self.upsample_cnn(context).transpose(1, 2)
        lengths = lengths * sizes.upsample_times
        if self.blstm is not None:
            # Packed: read backwards, padding would come first, and the reference's does.
            packed = pack_padded_sequence(x, lengths.cpu(), batch_first=True, enforce_sorted=False)
            x, _ = pad_packed_sequence(
                self.blstm(packed)[0], batch_first=True, total_length=x.shape[1]
            )
        alphas = self.cif_output2(x).squeeze(-1).sigmoid()
        alphas = (alphas * sizes.smooth_factor2 - sizes.noise_threshold2).relu()
        inside: Tensor = alphas * mask(lengths, alphas.shape[1])
        return inside
