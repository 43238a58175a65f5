"""Folders in GigaAM's published layouts: the package's `.ckpt` (v1, v2, Emo), the hub's (v3)."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from benchmarks.folders.noise import noise
from stages.asr.gigaam import GigaAm, GigaAmCtc, read_options
from stages.asr.gigaam_checkpoint import GigaAmCheckpoint
from stages.weightless import without_weights

Version = Literal["v1", "v2", "v3", "v3_e2e", "emo"]

LETTERS = (" ", *(chr(ord("а") + i) for i in range(32)))
EMOTIONS = ("angry", "sad", "neutral", "positive")
RUSSIAN = (
    "Добрый день, коллеги! Начнём с бюджета?",
    "Да, в 2025 году всё было иначе: цены росли, а отчёты запаздывали.",
    "Предлагаю выслушать Анну Сергеевну, потом перейдём к вопросам.",
    "Спасибо. Что у нас с поставками на север?",
)
_V3_PREPROCESSOR = {
    "win_length": 320,
    "hop_length": 160,
    "mel_scale": "htk",
    "n_fft": 320,
    "mel_norm": None,
    "center": False,
}
_V3_ENCODER = {"subs_kernel_size": 5, "subsampling": "conv1d", "conv_norm_type": "layer_norm"}


def config(version: Version, layers: int = 16, width: int = 768) -> dict[str, Any]:
    """`cfg` as the checkpoints of a version have it; of v3 what `published` then completes."""
    third = version.startswith("v3")
    encoder = {
        "_target_": "gigaam.encoder.ConformerEncoder",
        "feat_in": 64,
        "n_layers": layers,
        "d_model": width,
        "subsampling_factor": 4,
        "ff_expansion_factor": 4,
        "self_attention_model": "rel_pos" if version in ("v1", "emo") else "rotary",
        "pos_emb_max_len": 5000,
        "n_heads": 16,
        "conv_kernel_size": 5 if third else 31,
        "flash_attn": False,
    }
    cfg: dict[str, Any] = {
        "sample_rate": 16000,
        "preprocessor": {
            "_target_": "gigaam.preprocess.FeatureExtractor",
            "sample_rate": 16000,
            "features": 64,
        },
        "encoder": encoder,
    }
    if version == "emo":
        head = {"_target_": "torch.nn.Linear", "in_features": width, "out_features": 4}
        return cfg | {"head": head, "id2name": dict(enumerate(EMOTIONS))}
    classes = len(LETTERS) + 1
    head = {"_target_": "gigaam.decoder.CTCHead", "feat_in": width, "num_classes": classes}
    decoding = {"_target_": "gigaam.decoding.CTCGreedyDecoding", "vocabulary": list(LETTERS)}
    return cfg | {"head": head, "decoding": decoding}


def with_pieces(cfg: dict[str, Any], model: Path, count: int) -> dict[str, Any]:
    """The same for a vocabulary of SentencePiece."""
    head = cfg["head"] | {"num_classes": count + 1}
    decoding = cfg["decoding"] | {"vocabulary": None, "model_path": str(model)}
    return cfg | {"head": head, "decoding": decoding}


def published(cfg: dict[str, Any]) -> dict[str, Any]:
    """`config.json` of version 3 as on the hub."""
    inner = cfg | {
        "preprocessor": cfg["preprocessor"] | _V3_PREPROCESSOR,
        "encoder": cfg["encoder"] | _V3_ENCODER,
    }
    return {"model_type": "gigaam", "cfg": {"model": {"_target_": "GigaAMASR", "cfg": inner}}}


def train_pieces(folder: Path) -> Path:
    """A SentencePiece model of Russian with case and marks, as the e2e versions have one."""
    from sentencepiece import SentencePieceTrainer

    folder.mkdir(parents=True, exist_ok=True)
    text = folder / "text.txt"
    text.write_text("\n".join(RUSSIAN * 20), encoding="utf-8")
    SentencePieceTrainer.train(
        input=str(text),
        model_prefix=str(folder / "tokenizer"),
        vocab_size=256,
        hard_vocab_limit=False,
        bos_id=-1,
        eos_id=-1,
        minloglevel=2,
    )
    text.unlink()
    return folder / "tokenizer.model"


def make_folder(
    path: Path,
    version: Version,
    speech: Tensor | None = None,
    *,
    layers: int = 16,
    width: int = 768,
) -> Path:
    """Writes a folder as it is published, by default of full size, without the reference.
    `speech` [T]: audio on which some three frames in four are blank, as with trained weights."""
    path.mkdir(parents=True, exist_ok=True)
    cfg = config(version, layers, width)
    if version == "v3_e2e":
        from sentencepiece import SentencePieceProcessor

        model = train_pieces(path)
        count = len(SentencePieceProcessor(model_file=str(model)))
        cfg = with_pieces(cfg, Path(model.name), count)
    whole = published(cfg)
    known = whole["cfg"]["model"]["cfg"] if version.startswith("v3") else cfg
    sizes = read_options(GigaAmCheckpoint(path, known, {}))
    with without_weights():
        network = GigaAm(*sizes) if version == "emo" else GigaAmCtc(*sizes, classes(cfg))
    shapes = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    state = {
        name: _weights(name, shape)
        for name, shape in shapes.items()
        if not name.startswith("preprocessor")
    }
    if version == "emo":
        state |= {"head.weight": _weights("head.weight", (4, width)), "head.bias": torch.zeros(4)}
    elif speech is not None:
        _quiet(GigaAmCtc(*sizes, classes(cfg)), state, speech)
    if version.startswith("v3"):
        half = {f"model.{name}": value.half() for name, value in state.items()}
        torch.save(half, path / "pytorch_model.bin")
        (path / "config.json").write_text(json.dumps(whole), "utf-8")
    else:
        torch.save({"state_dict": state, "cfg": cfg}, path / f"{version}.ckpt")
    return path


def classes(cfg: dict[str, Any]) -> int:
    """Of the head, the blank among them."""
    return int(cfg["head"]["num_classes"])


def _weights(name: str, shape: Sequence[int]) -> Tensor:
    if name.endswith("num_batches_tracked"):
        return torch.tensor(0)
    drawn = torch.from_numpy(noise(name, tuple(shape), seed=1))
    if len(shape) > 1:
        return drawn / math.sqrt(math.prod(shape[1:]))
    if name.endswith("running_var") or ("norm" in name and name.endswith("weight")):
        return 1 + 0.1 * drawn
    return 0.05 * drawn


@torch.inference_mode()
def _quiet(network: GigaAmCtc, state: dict[str, Tensor], speech: Tensor) -> None:
    """Takes the mean out of the scores of the tokens, and helps the blank."""
    network.load_state_dict(state, strict=False)
    encoded, _ = network.eval()(speech[None], torch.tensor([len(speech)]))
    scores = network.head.decoder_layers(encoded.transpose(1, 2))[0]
    bias = state["head.decoder_layers.0.bias"]
    bias -= scores.mean(dim=1)
    centred = scores - scores.mean(dim=1, keepdim=True)
    bias[-1] += (centred[:-1].max(dim=0).values - centred[-1]).quantile(0.75)
