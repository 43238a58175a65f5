"""Rooms to put clean speech into: reverberation of a shoebox room, and room noise.

Source: Allen and Berkley, Image method for efficiently simulating small-room acoustics
(1979); wall absorption from the reverberation time by Eyring's formula.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.signal import butter, fftconvolve, sosfilt

RATE = 16000
SPEED_OF_SOUND = 343.0
HIGH_PASS_HZ = 80.0
_SABINE = 0.161


@dataclass(frozen=True)
class Room:
    """A shoebox: `size` and the microphone's position in m, reverberation time in s."""

    size: tuple[float, float, float] = (6.2, 4.7, 2.8)
    microphone: tuple[float, float, float] = (3.0, 2.2, 0.9)
    rt60: float = 0.3


def impulse_response(
    room: Room, source: tuple[float, float, float], rng: np.random.Generator
) -> NDArray[np.float32]:
    """float32 [rt60 * 16000]. The direct path is sample 0 with gain 1, so that what is
    convolved with it keeps its times. `rng` moves each image by up to 8 cm:
    real walls are not mirrors, and exact ones give a sweeping echo."""
    size = np.array(room.size)
    surface = 2 * (size[0] * size[1] + size[0] * size[2] + size[1] * size[2])
    reflection = np.exp(-_SABINE * size.prod() / (2 * surface * room.rt60))
    reach = SPEED_OF_SOUND * room.rt60
    order = np.arange(-int(reach / (2 * size.min())) - 1, int(reach / (2 * size.min())) + 2)
    cells = np.stack(np.meshgrid(order, order, order, indexing="ij"), -1).reshape(-1, 1, 3)
    mirrored = np.stack(np.meshgrid([0, 1], [0, 1], [0, 1], indexing="ij"), -1).reshape(1, -1, 3)
    images = (1 - 2 * mirrored) * np.array(source) + 2 * cells * size  # [cells, 8, 3]
    bounces = (np.abs(cells - mirrored) + np.abs(cells)).sum(-1)
    direct = np.linalg.norm(np.array(source) - np.array(room.microphone))
    distance = np.linalg.norm(images - np.array(room.microphone), axis=-1)
    distance += np.where(bounces > 0, rng.uniform(-0.08, 0.08, distance.shape), 0.0)
    delay = np.round((distance - direct) / SPEED_OF_SOUND * RATE).astype(int)
    inside = (delay >= 0) & (delay < int(room.rt60 * RATE))
    response = np.zeros(int(room.rt60 * RATE))
    gain = reflection**bounces * direct / np.maximum(distance, 0.1)
    np.add.at(response, delay[inside], gain[inside])
    # The images' gains are all positive: without a high-pass they add up to a rumble.
    high_passed = sosfilt(butter(2, HIGH_PASS_HZ, "highpass", fs=RATE, output="sos"), response)
    return np.asarray(high_passed, dtype=np.float32)


def reverberate(samples: NDArray[np.float32], response: NDArray[np.float32]) -> NDArray[np.float32]:
    """`samples` as heard in the room: longer by the response's length less one sample."""
    heard: NDArray[np.float32] = np.asarray(fftconvolve(samples, response), dtype=np.float32)
    return heard


def room_noise(length: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Ventilation and computers, float32 [length] of RMS 1: noise that falls by some 5 dB an
    octave above 80 Hz, with a faint mains hum."""
    frequency = np.fft.rfftfreq(length, 1 / RATE)
    spectrum = rng.standard_normal(len(frequency)) + 1j * rng.standard_normal(len(frequency))
    spectrum *= np.minimum(frequency / 80, 1.0) * np.maximum(frequency, 80.0) ** -0.8
    noise = np.fft.irfft(spectrum, length)
    seconds = np.arange(length) / RATE
    noise /= noise.std()
    noise += 0.15 * np.sin(2 * np.pi * 100 * seconds) + 0.05 * np.sin(2 * np.pi * 200 * seconds)
    return np.float32(1 / noise.std()) * noise.astype(np.float32)
