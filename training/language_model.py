"""Recipe of the recogniser's language model: a word trigram from transcripts of court
arguments and meetings, and the transcripts of the training speech.

Source: Chen and Goodman, An empirical study of smoothing techniques (1999), section 3: modified
Kneser-Ney, interpolated. What the shorter history says nearly as well is then dropped
(Stolcke 1998, with counts in place of probabilities).

    python -m training.language_model --data ../shared/data --out DIR
"""

from __future__ import annotations

import argparse
import json
import random
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import yaml
from numpy.typing import NDArray
from safetensors.numpy import save_file

from stages.asr.ngram import BEGIN, END, UNKNOWN, NgramModel
from training.asr_data import RECORDED, held_in, spoken
from training.language_model_text import SPECIAL, collection, read_aloud, spelled_like

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
