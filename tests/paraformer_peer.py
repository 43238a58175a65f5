"""What FunASR itself hears with the weights of `paraformer_folders.py`: the peer of
`test_paraformer.py` where it is installed, and, run as a script, what is kept of it for where it
is not:

    python -m tests.paraformer_peer     # writes tests/data/paraformer.json; made with 1.4.16
"""

from __future__ import annotations

import json
import random
import tempfile
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from numpy.typing import NDArray

from stages.audio.decode import AudioSource
from tests.paraformer_folders import LARGE, SMALL, SPECIAL, make_folder, vocabulary

GOLDEN = Path(__file__).parent / "data" / "paraformer.json"
MEETING = Path(__file__).parents[1] / "demo" / "meeting.opus"

# Where the segments of the demo meeting lie that are read: start and length in ms.
SEGMENTS = [(1000, 4100), (6200, 6400), (13_000, 2222), (16_300, 700), (21_000, 8050)]
FEW_HOTWORDS = "banter kur 一並 tas"
MANY_HOTWORDS = " ".join(
    [a + b + c for a in "btk" for b in "aeiou" for c in "nrs"]
    + [chr(0x4E00 + 2 * at) + chr(0x4E00 + 2 * at + 6) for at in range(30)]
)

# A case: kind of model, sizes, tokens, hotwords, and how many of the segments are read.
CASES: dict[str, tuple[str, dict[str, int], int, str, int]] = {
    "v2": ("Paraformer", SMALL, 400, "", 5),
    "bicif": ("BiCifParaformer", SMALL, 400, "", 5),
    "seaco": ("SeacoParaformer", SMALL, 400, "", 5),
    "few hotwords": ("SeacoParaformer", SMALL, 400, FEW_HOTWORDS, 5),
    "many hotwords": ("SeacoParaformer", SMALL, 400, MANY_HOTWORDS, 5),
    "full size": ("SeacoParaformer", LARGE, 8404, "banter kur", 2),
    "full size v2": ("Paraformer", LARGE, 10_020, "", 1),
}


@lru_cache
def segments(count: int) -> list[NDArray[np.float32]]:
    """The first of SEGMENTS, as samples."""
    source = AudioSource(str(MEETING), AudioSource.parameters_type())
    samples = next(source.blocks()).samples  # the first minute
    return [samples[start * 16 : (start + length) * 16] for start, length in SEGMENTS[:count]]


class Peer:
    """FunASR's AutoModel on a folder, whose results are read before tokens are joined."""

    def __init__(self, folder: Path) -> None:
        from funasr import AutoModel

        self.model = AutoModel(
            model=str(folder), device="cpu", disable_update=True, disable_pbar=True, ncpu=1
        )

    def hear(self, samples: NDArray[np.float32], hotwords: str) -> list[Any]:
        """Tokens, and [start, end] of each in ms."""
        from funasr.models.paraformer import model as paraformer
        from funasr.utils import postprocess_utils as joining

        # Up to 1.4.16 the plain Paraformer passes the two in the other's place: FunASR issue
        # 3723, whose times are wrong.
        def in_order(first: Any, second: Any, *rest: Any, **more: Any) -> Any:
            return times(second.clone(), first.clone(), *rest, **more)

        times = paraformer.ts_prediction_lfr6_standard
        options = {"hotword": hotwords} if hotwords else {}
        with (
            mock.patch.object(paraformer, "ts_prediction_lfr6_standard", in_order),
            mock.patch.object(joining, "sentence_postprocess", lambda t, at: (t, at, t)),
        ):
            found = self.model.generate(
                input=torch.from_numpy(samples.copy()), output_timestamp=True, **options
            )
        return [found[0]["text"], found[0]["timestamp"]] if found else [[], []]

    @torch.inference_mode()
    def inside(self, samples: NDArray[np.float32]) -> tuple[torch.Tensor, torch.Tensor]:
        """Encoder output [T, D] and weights of the predictor [T + 1]."""
        from funasr.utils.load_utils import extract_fbank

        features, lengths = extract_fbank(
            [torch.from_numpy(samples.copy())],
            data_type="sound",
            frontend=self.model.kwargs["frontend"],
        )
        network = self.model.model
        encoded, lengths = network.encode(features, lengths)
        return encoded[0], network.calc_predictor(encoded, lengths)[2][0]


def spellings(count: int) -> list[list[str]]:
    """Random sequences of tokens in which every piece of a word is followed by another or by the
    word's end (what comes of others is Hansard's own)."""
    drawn = random.Random(5)
    known = [token for token in vocabulary(400) if token not in (*SPECIAL, "<unk>", "'")]
    ends = [token for token in known if token.isalpha() and token.isascii()]
    found = []
    for _ in range(count):
        tokens: list[str] = []
        while len(tokens) < 12 or "@@" in tokens[-1]:
            inside = bool(tokens) and "@@" in tokens[-1]
            tokens.append(drawn.choice(ends if inside else known))
        found.append(tokens)
    return found


def joined_by_peer(tokens: Sequence[str]) -> list[Any]:
    """Words, and [start, end] of each, where token n lasts from 100 n to 100 n + 90 ms."""
    from funasr.utils.postprocess_utils import sentence_postprocess

    times = [[100 * at, 100 * at + 90] for at in range(len(tokens))]
    _, spans, words = sentence_postprocess(list(tokens), times)
    return [words, spans]


def main() -> None:
    torch.set_num_threads(1)
    golden: dict[str, Any] = {}
    for name, (kind, sizes, tokens, hotwords, count) in CASES.items():
        with tempfile.TemporaryDirectory() as folder:
            peer = Peer(make_folder(Path(folder), kind, sizes, tokens=tokens))
            heard = segments(count)
            encoded, alphas = peer.inside(heard[0])
            golden[name] = {
                "heard": [peer.hear(samples, hotwords) for samples in heard],
                "encoded": [[round(v, 5) for v in row] for row in encoded[::10, :6].tolist()],
                "alphas": [round(v, 6) for v in alphas.tolist()],
            }
    golden["joined"] = [[tokens, *joined_by_peer(tokens)] for tokens in spellings(25)]
    text = json.dumps(golden, ensure_ascii=False, separators=(",", ":"))
    GOLDEN.parent.mkdir(exist_ok=True)
    GOLDEN.write_text(text.replace('},"', '},\n"') + "\n", "utf-8")


if __name__ == "__main__":
    main()
