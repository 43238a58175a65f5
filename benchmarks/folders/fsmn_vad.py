"""Folders in FSMN-VAD's published layout."""

from __future__ import annotations

import math
from pathlib import Path

import torch
import yaml

from benchmarks.folders.noise import noise
from stages.audio.features import Cmvn, save_cmvn
from stages.models import ModelFolder
from stages.vad.fsmn import Fsmn, read_config

ENCODER = {
    "input_dim": 400,
    "input_affine_dim": 140,
    "fsmn_layers": 4,
    "linear_dim": 250,
    "proj_dim": 128,
    "lorder": 20,
    "rorder": 0,
    "lstride": 1,
    "rstride": 0,
    "output_affine_dim": 140,
    "output_dim": 248,
}
MODEL = {
    "sample_rate": 16000,
    "detect_mode": 1,
    "snr_mode": 0,
    "max_end_silence_time": 800,
    "max_start_silence_time": 3000,
    "do_start_point_detection": True,
    "do_end_point_detection": True,
    "window_size_ms": 200,
    "sil_to_speech_time_thres": 150,
    "speech_to_sil_time_thres": 150,
    "speech_2_noise_ratio": 1.0,
    "do_extend": 1,
    "lookback_time_start_point": 200,
    "lookahead_time_end_point": 100,
    "max_single_segment_time": 60000,
    "snr_thres": -100.0,
    "noise_frame_num_used_for_snr": 100,
    "decibel_thres": -100.0,
    "speech_noise_thres": 0.6,
    "fe_prior_thres": 0.0001,
    "silence_pdf_num": 1,
    "sil_pdf_ids": [0],
    "speech_noise_thresh_low": -0.1,
    "speech_noise_thresh_high": 0.3,
    "output_frame_probs": False,
    "frame_in_ms": 10,
    "frame_length_ms": 25,
}
FRONTEND = {
    "fs": 16000,
    "window": "hamming",
    "n_mels": 80,
    "frame_length": 25,
    "frame_shift": 10,
    "dither": 0.0,
    "lfr_m": 5,
    "lfr_n": 1,
}


def make_folder(path: Path) -> Path:
    """Writes a folder as it is on the hub, which takes some of the frames for speech."""
    config = {"model": "FsmnVADStreaming", "model_conf": MODEL, "encoder": "FSMN"}
    config |= {"encoder_conf": ENCODER, "frontend": "WavFrontendOnline", "frontend_conf": FRONTEND}
    path.mkdir(parents=True, exist_ok=True)
    (path / "config.yaml").write_text(yaml.safe_dump(config))
    save_cmvn(path / "am.mvn", Cmvn(torch.full((400,), -13.0), torch.full((400,), 0.22)))
    state = {}
    for name, value in Fsmn(read_config(ModelFolder(path)).network).state_dict().items():
        drawn = torch.from_numpy(noise(name, tuple(value.shape), seed=1))
        fan_in = value[0].numel() if value.ndim > 1 else 400
        state[f"encoder.{name}"] = drawn / math.sqrt(fan_in)
    state["encoder.out_linear2.linear.weight"][0] *= 12  # silence: at times likely, at times not
    state["encoder.out_linear2.linear.bias"][0] = math.log(247) - 1
    torch.save(state, path / "model.pt")
    return path
