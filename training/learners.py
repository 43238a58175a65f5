"""Recognisers that go on learning: a model folder, bundled or published, becomes a module whose
`forward` is its training loss, and can be written back in the layout in which it came.

Sources: Graves et al., CTC (2006); Gao et al., Paraformer (2022), section 3.3, for the glancing
sampler and the loss on the number of tokens.
"""

from __future__ import annotations

import json
import shutil
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, ctc_loss, pad

from stages.asr.cif import integrate
from stages.asr.gigaam import GigaAmCtc, GigaAmParameters, GigaAmRecogniser
from stages.asr.gigaam_checkpoint import read_checkpoint
from stages.asr.lexicon import read_pronunciations
from stages.asr.paraformer import Paraformer
from stages.asr.paraformer_stage import ParaformerRecogniser
from stages.asr.seaco import Spelling, read_seg_dict
from stages.asr.stage import CtcParameters, Recogniser
from stages.models import ModelFolder
from stages.sanm import mask

GLANCES = 0.75  # of the tokens that a first reading gets wrong are shown to the second one
QUANTITY_WEIGHT = 1.0  # of the number of tokens, beside the tokens themselves


class Learner(nn.Module, ABC):
    """Batch norms keep the statistics that they came with: those of a few utterances are worse."""

    network: nn.Module

    def __init__(self, folder: ModelFolder, network: nn.Module) -> None:
        super().__init__()
        self.folder = folder
        self.network = network.eval()
        for parameter in network.parameters():
            parameter.data = parameter.data.clone()  # not the mapped file
            parameter.requires_grad_(True)

    @abstractmethod
    def spell(self, text: str) -> list[int] | None:
        """A transcript as token ids; None where the model has no tokens for a part of it."""

    @abstractmethod
    def forward(self, waveforms: Tensor, lengths: Tensor, targets: list[list[int]]) -> Tensor:
        """Waveforms [B, T], lengths [B] in samples, to the loss a token."""

    def write(self, out: Path) -> None:
        """A model folder like the one that this came from, with the weights as they are now."""
        out.mkdir(parents=True, exist_ok=True)
        weights = self.folder.weights
        for path in self.folder.path.iterdir():
            if path.is_file() and path != weights and path.suffix != ".md":
                shutil.copy(path, out / path.name)
        if weights.suffix == ".safetensors":
            stored = safetensors.torch.load_file(weights)
            safetensors.torch.save_file(self._renewed(stored), out / weights.name)
        else:
            torch.save(self._content(), out / weights.name)

    def _content(self) -> Any:
        """What a torch file of this layout holds."""
        return self._renewed(
            torch.load(self.folder.weights, map_location="cpu", weights_only=True, mmap=True)
        )

    def _renewed(self, stored: dict[str, Tensor]) -> dict[str, Tensor]:
        """`stored` with every weight that the network has in place of its own."""
        now = self.network.state_dict()
        trained = {name for name, _ in self.network.named_parameters()}
        renewed = dict(stored)
        for name, before in stored.items():
            for alias in (name, name.removeprefix("model."), f"bias.{name}"):
                if alias in now:
                    renewed[name] = now[alias].detach().cpu().to(before.dtype).contiguous()
                    trained.discard(alias)
        if trained:
            raise ValueError(f"{self.folder.weights}: holds no {sorted(trained)[0]}")
        return renewed


class PhoneCtc(Learner):
    """The bundled recogniser's kind: phones, spelt by the lexicon of the folder."""

    network: Any

    def __init__(self, folder: ModelFolder) -> None:
        recogniser = Recogniser.read(folder, CtcParameters(model=str(folder.path)))
        super().__init__(folder, recogniser.network)
        self.fbank = recogniser.fbank
        tokens = {
            token: at for at, token in enumerate(json.loads(folder.file("tokens.json").read_text()))
        }
        known = read_pronunciations(folder.file("lexicon.txt"))
        self.known = {word: [tokens[t] for t in ways[0]] for word, ways in known.items()}

    def spell(self, text: str) -> list[int] | None:
        words = text.lower().split()
        if not words or any(word not in self.known for word in words):
            return None
        return [token for word in words for token in self.known[word]]

    def forward(self, waveforms: Tensor, lengths: Tensor, targets: list[list[int]]) -> Tensor:
        log_probs, frames = self.network(*self.fbank(waveforms, lengths))
        return ctc(log_probs, frames, targets)


class GigaAmLearner(Learner):
    """GigaAM with CTC: letters, or the pieces of its SentencePiece model."""

    network: GigaAmCtc

    def __init__(self, folder: ModelFolder) -> None:
        recogniser = GigaAmRecogniser.read(folder, GigaAmParameters(model=str(folder.path)))
        super().__init__(folder, recogniser.network)
        checkpoint = read_checkpoint(folder)
        self.letters: dict[str, int] = {}
        self.pieces: Any = None
        if checkpoint.section("decoding").get("model_path"):
            from sentencepiece import SentencePieceProcessor

            self.pieces = SentencePieceProcessor(model_file=str(checkpoint.tokenizer))
        else:
            letters = checkpoint.section("decoding")["vocabulary"]
            self.letters = {letter: at for at, letter in enumerate(letters)}

    def spell(self, text: str) -> list[int] | None:
        """After the blank, which is token 0."""
        if self.pieces is not None:
            ids = self.pieces.encode(text)
            known = not any(self.pieces.is_unknown(piece) for piece in ids)
        else:
            text = " ".join(text.lower().split())
            known = all(letter in self.letters for letter in text)
            ids = [self.letters[letter] for letter in text] if known else []
        return [piece + 1 for piece in ids] if known and ids else None

    def forward(self, waveforms: Tensor, lengths: Tensor, targets: list[list[int]]) -> Tensor:
        return ctc(*self.network.posteriors(waveforms, lengths), targets)

    def _content(self) -> Any:
        """As this project's reader knows it: of a .ckpt the `cfg` becomes plain data."""
        if self.folder.weights.suffix != ".ckpt":
            return super()._content()
        checkpoint = read_checkpoint(self.folder)
        return {"state_dict": self._renewed(dict(checkpoint.state)), "cfg": checkpoint.config}


class ParaformerLearner(Learner):
    """Paraformer and its variants. Hotword biasing (SeACo) stays as it is."""

    network: Paraformer

    def __init__(self, folder: ModelFolder) -> None:
        recogniser = ParaformerRecogniser.read(folder, [])
        super().__init__(folder, recogniser.network)
        self.features = recogniser.features
        ids = {token: at for at, token in enumerate(recogniser.layout.tokens)}
        self.spelling = Spelling(ids, read_seg_dict(folder.path / "seg_dict"))
        model = folder.config().get("model_conf", {})
        # Published models also count, and say, the end of the sentence.
        self.ending = [model.get("eos", 2)] * model.get("predictor_bias", 0)
        if self.network.bias is not None:
            self.network.bias.requires_grad_(False)

    def spell(self, text: str) -> list[int] | None:
        ids = self.spelling.tokens(text)
        return ids and [*ids, *self.ending]

    def forward(self, waveforms: Tensor, lengths: Tensor, targets: list[list[int]]) -> Tensor:
        network = self.network
        features, frames = self.features(waveforms, lengths)
        encoded = network.encoder(features, frames) * mask(frames, features.shape[1])[..., None]
        alphas, fine, _, _ = network.predictor(encoded, frames)
        tokens, counts = padded(targets, waveforms.device)
        sums = alphas.sum(dim=1)
        quantity = (sums - counts).abs().sum()
        if fine is not None:
            quantity = quantity + (fine.sum(dim=1) - counts).abs().sum()
        # As many tokens as there are, and a little more, lest rounding takes the last one.
        scaled = alphas * (counts * 1.0001 / sums.clamp(min=1e-6))[:, None]
        embedded, _ = integrate(pad(encoded, (0, 0, 0, 1)), scaled)
        embedded = self.glanced(embedded, tokens, counts, encoded, frames)
        scores = self.scores(embedded, counts, encoded, frames)
        keep = mask(counts, tokens.shape[1])
        wrong = cross_entropy(scores[keep], tokens[keep], reduction="sum")
        return (wrong + QUANTITY_WEIGHT * quantity) / counts.sum()

    def scores(self, embedded: Tensor, counts: Tensor, encoded: Tensor, frames: Tensor) -> Tensor:
        """Of every token at every place: [B, K, tokens]."""
        decoder = self.network.decoder
        found: Tensor = decoder.output_layer(decoder(embedded, counts, encoded, frames))
        return found

    @torch.no_grad()
    def _shown(self, guessed: Tensor, tokens: Tensor, counts: Tensor) -> Tensor:
        """Where the true token is shown: drawn, as many as `GLANCES` says: bool [B, K]."""
        keep = mask(counts, tokens.shape[1])
        number = ((guessed != tokens) & keep).sum(dim=1) * GLANCES
        drawn = torch.rand(tokens.shape, device=tokens.device).masked_fill(~keep, 2.0)
        return drawn.argsort(dim=1).argsort(dim=1) < number.floor()[:, None]

    def glanced(
        self, embedded: Tensor, tokens: Tensor, counts: Tensor, encoded: Tensor, frames: Tensor
    ) -> Tensor:
        """The acoustic embeddings [B, K, D], some of them replaced by those of the true tokens:
        the more, the more a first reading gets wrong."""
        with torch.no_grad():
            guessed = self.scores(embedded, counts, encoded, frames).argmax(dim=-1)
        shown = self._shown(guessed, tokens, counts)
        return torch.where(shown[..., None], self.network.decoder.embed(tokens), embedded)


def learner_for(folder: ModelFolder) -> Learner:
    """By what the folder says of itself. ModelError where it is none of these models."""
    named = folder.path / "config.yaml"
    model = folder.config().get("model") if named.is_file() else None
    if model == "CtcNetwork":
        return PhoneCtc(folder)
    return GigaAmLearner(folder) if model is None else ParaformerLearner(folder)


def ctc(log_probs: Tensor, frames: Tensor, targets: list[list[int]]) -> Tensor:
    """CTC loss a token of log posteriors [B, T, tokens], the blank first."""
    tokens, counts = padded(targets, log_probs.device)
    total = ctc_loss(
        log_probs.transpose(0, 1), tokens, frames, counts, reduction="sum", zero_infinity=True
    )
    return total / counts.sum()


def padded(targets: list[list[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Token ids int64 [B, K], zeros past each row's count [B]."""
    counts = torch.tensor([len(row) for row in targets])
    tokens = nn.utils.rnn.pad_sequence([torch.tensor(row) for row in targets], batch_first=True)
    return tokens.to(device), counts.to(device)
