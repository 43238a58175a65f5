"""What FunASR takes for the same work: run by `benchmarks.speed` in a process of its own. Prints
one JSON object: seconds of each stage and of the whole, the tokens of each segment, and the
peak memory of the process in MB.

    python -m benchmarks.speed_funasr speech.wav THREADS REPEAT asr=FOLDER vad=FOLDER ...
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections import defaultdict
from typing import Any

from tests.peers import torchaudio

STAGES = {"FsmnVADStreaming": "vad", "CTTransformer": "punctuation", "CAMPPlus": "embedding"}


def main() -> None:
    speech, threads, repeat, *named = sys.argv[1:]
    folders = dict(pair.split("=", 1) for pair in named)
    torchaudio()
    from funasr import AutoModel
    from funasr.utils import postprocess_utils

    seconds: defaultdict[str, float] = defaultdict(float)
    infer = AutoModel.inference

    def timed(self: Any, *args: Any, **options: Any) -> Any:
        model = options.get("model") or self.model
        began = time.perf_counter()
        found = infer(self, *args, **options)
        seconds[STAGES.get(type(model).__name__, "asr")] += time.perf_counter() - began
        return found

    def noted(found: list[str], *rest: Any) -> Any:
        tokens.append(list(found))
        return join(found, *rest)

    tokens: list[list[str]] = []
    join = postprocess_utils.sentence_postprocess
    postprocess_utils.sentence_postprocess = noted
    AutoModel.inference = timed
    model = AutoModel(
        model=folders["asr"],
        vad_model=folders["vad"],
        punc_model=folders["punctuation"],
        spk_model=folders["embedding"],
        device="cpu",
        ncpu=int(threads),
        disable_update=True,
        disable_pbar=True,
    )
    best: dict[str, Any] = {"whole": float("inf")}
    for _ in range(int(repeat)):
        seconds.clear()
        tokens.clear()
        began = time.perf_counter()
        model.generate(input=speech, dynamic_silence=False)
        whole = time.perf_counter() - began
        if whole < best["whole"]:
            best = {"whole": whole, "stages": dict(seconds), "tokens": list(tokens)}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps(best | {"peak_mb": peak}))


if __name__ == "__main__":
    main()
