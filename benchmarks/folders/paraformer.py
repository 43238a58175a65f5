"""Folders in Paraformer's published layout. The scales keep activations in the range of a trained
network's, so that tokens differ from each other, some four a second, and rounding does not decide
between them."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from benchmarks.folders.noise import noise
from stages.asr.paraformer import Paraformer, ParaformerSizes
from stages.audio.features import Cmvn, save_cmvn
from stages.weightless import without_weights

FRONTEND = {
    "fs": 16000,
    "window": "hamming",
    "n_mels": 80,
    "frame_length": 25,
    "frame_shift": 10,
    "dither": 0.0,
    "lfr_m": 7,
    "lfr_n": 6,
}
SMALL = {"width": 64, "units": 96, "encoder": 3, "decoder": 2, "seaco": 6}
LARGE = {"width": 512, "units": 2048, "encoder": 50, "decoder": 16, "seaco": 6}
SCALES = {
    "decoder.output_layer": 2.0,
    "decoder.embed": 8.0,
    "predictor.cif_output2": 4.0,
    "predictor.cif_output": 1.5,
    "predictor": 2.0,
    "bias.bias_encoder": 3.0,
    "bias.hotword_output_layer": 2.0,
}
SPECIAL = ["<blank>", "<s>", "</s>"]


def vocabulary(size: int) -> list[str]:
    """Chinese characters, words, pieces of words, letters and numbers; `<unk>` is the last."""
    words = [f"{a}{b}{c}" for a in "btk" for b in "aeiou" for c in "nrs"]
    pieces = [f"{word}@@" for word in words]
    others = [*"abcdefghijklmnopqrstuvwxyz", *"0123456789", "it's", "'"]
    known = [*SPECIAL, *words, *pieces, *others]
    chinese = [chr(0x4E00 + 2 * at) for at in range(size - len(known) - 1)]
    return [*known, *chinese, "<unk>"]


def config(kind: str, sizes: dict[str, int], tokens: int) -> dict[str, Any]:
    """A config.yaml of `kind`: Paraformer, BiCifParaformer or SeacoParaformer."""
    width, units = sizes["width"], sizes["units"]
    predictor: dict[str, Any] = {
        "idim": width,
        "threshold": 1.0,
        "l_order": 1,
        "r_order": 1,
        "tail_threshold": 0.45,
    }
    decoder = {
        "attention_heads": 4,
        "linear_units": units,
        "num_blocks": sizes["decoder"],
        "att_layer_num": sizes["decoder"],
        "kernel_size": 11,
        "sanm_shfit": 0,
    }
    found: dict[str, Any] = {
        "model": kind,
        "model_conf": {"ctc_weight": 0.0, "predictor_bias": 1},
        "encoder": "SANMEncoder",
        "encoder_conf": {
            "output_size": width,
            "attention_heads": 4,
            "linear_units": units,
            "num_blocks": sizes["encoder"],
            "input_layer": "pe",
            "kernel_size": 11,
            "sanm_shfit": 0,
            "selfattention_layer_type": "sanm",
        },
        "decoder": "ParaformerSANMDecoder",
        "decoder_conf": decoder,
        "predictor": "CifPredictorV2",
        "predictor_conf": predictor,
        "frontend": "WavFrontend",
        "frontend_conf": FRONTEND,
        "tokenizer": "CharTokenizer",
        "tokenizer_conf": {"unk_symbol": "<unk>", "split_with_space": True},
    }
    if kind != "Paraformer":
        found["predictor"] = "CifPredictorV3"
        predictor |= {
            "smooth_factor2": 0.25,
            "noise_threshold2": 0.01,
            "upsample_times": 3,
            "use_cif1_cnn": False,
            "upsample_type": "cnn_blstm",
        }
    if kind == "SeacoParaformer":
        found["model_conf"] |= {
            "inner_dim": width,
            "bias_encoder_type": "lstm",
            "bias_encoder_bid": False,
            "NO_BIAS": tokens - 2,
        }
        found["seaco_decoder"] = "ParaformerSANMDecoder"
        found["seaco_decoder_conf"] = decoder | {
            "num_blocks": sizes["seaco"],
            "att_layer_num": sizes["seaco"],
            "use_output_layer": False,
            "wo_input_layer": True,
        }
    return found


def weights(network: Paraformer, seed: int) -> dict[str, Tensor]:
    """Of every parameter of `network`, under its published name."""
    state = {}
    for name, value in network.state_dict().items():
        drawn = noise(name, tuple(value.shape), seed)
        if value.ndim > 1:
            scale = next((s for part, s in SCALES.items() if name.startswith(part)), 1.0)
            drawn *= scale / math.sqrt(math.prod(value.shape[1:]))
        elif "norm" in name and name.endswith("weight"):
            drawn = 1 + 0.1 * drawn
        else:
            drawn *= 0.05
        if name == "predictor.cif_output.bias":
            drawn[:] = -1.3  # some four tokens a second
        if name == "bias.hotword_output_layer.bias":
            drawn[-2] = 5.0  # NO_BIAS: some tokens stay as they are
        state[name.removeprefix("bias.")] = torch.from_numpy(drawn)
    return state


def make_folder(
    path: Path, kind: str, sizes: dict[str, int], *, tokens: int = 400, seed: int = 1
) -> Path:
    """Writes a folder as it is on the hub."""
    path.mkdir(parents=True, exist_ok=True)
    settings = config(kind, sizes, tokens)
    listed = vocabulary(tokens)
    with without_weights():
        network = Paraformer(ParaformerSizes.from_yaml(settings, 560, tokens))
    torch.save(weights(network, seed), path / "model.pt")
    (path / "config.yaml").write_text(yaml.safe_dump(settings))
    (path / "tokens.json").write_text(json.dumps(listed, ensure_ascii=False), "utf-8")
    lines = [f"{token} {token}" for token in listed if token.isalnum()]
    lines += ["banter ban@@ ter", "kenbar ken@@ bar", "torres tor@@ res"]
    (path / "seg_dict").write_text("\n".join(lines) + "\n", "utf-8")
    save_cmvn(path / "am.mvn", Cmvn(torch.full((560,), -13.0), torch.full((560,), 0.22)))
    return path
