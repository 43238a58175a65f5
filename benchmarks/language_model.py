"""Perplexity of the language models and their share of unknown words, by group of held-out text.

    python -m benchmarks.language_model --data ../shared/data

Held out are the speakers that `training/splits.py` names, the last meetings and court arguments
of shared/data/text-en, and the demo. Perplexity is of words and the ends of utterances: of the
known ones for the trigram; the neural model, which writes any word in pieces, knows all.
"""

from __future__ import annotations

import argparse
from itertools import islice
from pathlib import Path

from benchmarks.asr import GROUPS, demo_reference
from stages.asr.neural_lm import PIECES as PIECES_FILE
from stages.asr.neural_lm import load_neural_lm
from stages.asr.ngram import NgramModel
from stages.asr.pieces import read_pieces
from stages.models import locate
from training.asr_data import spoken
from training.language_model import encode
from training.language_model_mix import perplexity
from training.language_model_text import transcripts
from training.neural_lm import perplexity as word_perplexity
from training.splits import is_held_out, read_manifest

PIECES = 4000  # of meetings and of court arguments
SEED = 0


def held_out_texts(data: Path) -> dict[str, list[list[str]]]:
    """Utterances as words, by group."""
    texts = {
        name: [
            spoken(utterance.text).split()
            for utterance in read_manifest(data / folder)
            if is_held_out(utterance.speaker, utterance.split) and spoken(utterance.text)
        ]
        for name, folder in GROUPS.items()
    }
    texts["demo meeting"] = [[word.text for word in demo_reference()]]
    for corpus in ("meetings", "oral-arguments"):
        texts[corpus] = list(islice(transcripts(data, corpus, "held-out", SEED), PIECES))
    return texts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="the folder shared/data")
    parser.add_argument("--model", default="bundled/en-lm", help="bundled/NAME or a folder")
    parser.add_argument("--neural", default="bundled/en-nlm", help="the same")
    options = parser.parse_args()
    model = NgramModel.read(locate(options.model, "stages.asr"))
    folder = locate(options.neural, "stages.asr")
    neural, pieced = load_neural_lm(folder), read_pieces(folder.file(PIECES_FILE))
    known = set(model.words)
    print(f"{len(known)} words, {len(model.bigrams)} bigrams, {len(model.trigrams)} trigrams")
    print(f"{'group':24}{'words':>8}{'unknown %':>11}{'trigram':>10}{'neural':>10}")
    for name, pieces in held_out_texts(options.data).items():
        words = [word for piece in pieces for word in piece]
        unknown = 100 * sum(word not in known for word in words) / len(words)
        trigram = perplexity(model, encode(pieces, model.words))
        recurrent = word_perplexity(neural, pieced, pieces)
        print(f"{name:24}{len(words):8}{unknown:11.2f}{trigram:10.0f}{recurrent:10.0f}", flush=True)


if __name__ == "__main__":
    main()
