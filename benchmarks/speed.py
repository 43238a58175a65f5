"""Time and memory of each stage, beside plain matrix products of the same shapes, and beside FunASR
with the same weights on the same audio where it is installed.

    python -m benchmarks.speed --data ../shared/data                        # Paraformer-large
    python -m benchmarks.speed --data ../shared/data --profile default
    python -m benchmarks.speed --data ../shared/data --set asr.precision=int8
    python -m benchmarks.speed --data ../shared/data --hours 1 10 --set clustering.speakers=5
    python -m benchmarks.speed --small                                      # what CI prints

Models that are not bundled have random weights in their published layouts (`benchmarks.folders`):
as much work as with trained ones. The audio is real: AMI's excerpts, or the demo meeting, again and
again. With `--hours`, whole runs over long recordings instead (`benchmarks.speed_whole`); give the
speakers' number there to voices of random weights, which are not told apart.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.folders import campplus, ct_transformer, fsmn_vad
from benchmarks.folders import paraformer as paraformer_folders
from benchmarks.peak import Peak
from benchmarks.published import PROFILES, make_models
from benchmarks.speed_products import Products
from benchmarks.speed_whole import Whole, run_whole, write_speech
from benchmarks.speed_whole import show as show_whole
from pipeline.graph import AUDIO, Graph
from pipeline.lanes import one_thread
from pipeline.local import InProcess
from pipeline.profile import load_profile
from pipeline.records import Word
from pipeline.stage import Inputs
from stages.asr.pieces import join_tokens

ROOT = Path(__file__).resolve().parents[1]
MEETING = ROOT / "demo" / "meeting.opus"
PEER_STAGES = ("vad", "asr", "punctuation", "embedding")


@dataclass(frozen=True)
class Cost:
    """Of one stage. `cpu` seconds of all threads together; `products` the seconds that plain
    matrix products of the same shapes take, which are `operations` additions and
    multiplications; `peer` FunASR's seconds, 0 where there are none."""

    stage: str
    seconds: float
    cpu: float
    operations: int
    products: float
    peak_mb: float
    peer: float = 0.0


@dataclass(frozen=True)
class Result:
    """`costs` of each stage by itself; `peer` what `speed_funasr` prints, empty where it did not
    run; of the `words` recognised `differing` are in one of the two only."""

    profile: str
    threads: int
    costs: list[Cost]
    whole: Whole
    words: int
    peer: dict[str, Any]
    differing: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="the folder shared/data")
    parser.add_argument("--profile", default="paraformer-en")
    parser.add_argument("--minutes", type=float, default=7.0)
    parser.add_argument("--hours", type=float, nargs="+", help="whole runs over so many hours")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--repeat", type=int, default=2, help="the best of so many runs counts")
    parser.add_argument("--set", dest="settings", action="append", default=[])
    parser.add_argument("--no-peer", action="store_true", help="without FunASR")
    parser.add_argument("--small", action="store_true", help="small networks, a minute of audio")
    parser.add_argument("--work", type=Path, default=Path("/tmp/hansard-published"))
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if not arguments.small and arguments.data is None:
        parser.error("--data or --small is needed")
    arguments.work.mkdir(parents=True, exist_ok=True)
    threads: int = arguments.threads
    models = make_small(arguments.work) if arguments.small else {}
    if arguments.profile in PROFILES and not arguments.small:
        models = make_models(arguments.profile, arguments.work, arguments.data)
    settings = [f"{stage}.model={folder}" for stage, folder in models.items()]
    graph = load_profile(arguments.profile, [*settings, *arguments.settings])
    profile = " ".join([arguments.profile, *arguments.settings])
    torch.set_num_threads(threads)
    compute = InProcess(graph)
    run_whole(graph, audio_of(arguments, 1.0), compute)  # loads the models
    if arguments.hours:
        for hours in arguments.hours:
            whole = run_whole(graph, audio_of(arguments, 60 * hours), compute)
            if arguments.json:
                print(json.dumps(asdict(whole)))
            else:
                show_whole(whole, profile, threads)
        return
    speech = audio_of(arguments, 1.0 if arguments.small else arguments.minutes)
    runs = [run_whole(graph, speech, compute) for _ in range(arguments.repeat)]
    costs, words = measure(graph, speech, threads, arguments.repeat)
    peer: dict[str, Any] = {}
    if not arguments.no_peer and find_spec("funasr") and "embedding" in models:
        peer = ask_funasr(speech, models, threads, arguments.repeat)
        costs = [with_peer(cost, peer["stages"]) for cost in costs]
    result = Result(
        profile=profile,
        threads=threads,
        costs=costs,
        whole=min(runs, key=lambda run: run.seconds),
        words=len(words),
        peer=peer,
        differing=differing(words, peer["tokens"]) if peer else 0,
    )
    if arguments.json:
        print(json.dumps(asdict(result)))
    else:
        show(result)


def audio_of(arguments: argparse.Namespace, minutes: float) -> Path:
    """So many minutes of AMI's excerpts, or of the demo meeting."""
    data: Path | None = arguments.data
    files = sorted((data / "meetings-ami").glob("*.flac")) if data else [MEETING]
    name = f"{'ami' if data else 'demo'}-{minutes:g}.wav"
    return write_speech(arguments.work / name, files, minutes)


def make_small(work: Path) -> dict[str, Path]:
    """Model folders of a tenth of the published width, which are made in seconds."""
    shelf = work / "small"
    shutil.rmtree(shelf, ignore_errors=True)
    sizes = paraformer_folders.SMALL
    return {
        "vad": fsmn_vad.make_folder(shelf / "vad"),
        "asr": paraformer_folders.make_folder(shelf / "asr", "Paraformer", sizes, tokens=400),
        "punctuation": ct_transformer.make_folder(shelf / "punctuation"),
        "embedding": campplus.make_folder(shelf / "embedding"),
    }


def measure(graph: Graph, speech: Path, threads: int, repeat: int) -> tuple[list[Cost], list[str]]:
    """The cost of each loaded stage by itself; and the words as recognised."""
    audio = graph.source(str(speech), graph.source_parameters)
    artifacts: dict[str, Any] = {}
    costs: list[Cost] = []
    words: list[str] = []
    for node in graph.nodes:
        inputs = Inputs(audio, {need: artifacts[need] for need in node.needs if need != AUDIO})
        with one_thread(), Products() as products:
            artifacts[node.name] = node.stage.run(inputs)
        runs = []
        for _ in range(repeat):
            with Peak() as peak:
                began, cpu = time.perf_counter(), time.process_time()
                node.stage.run(inputs)
                seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
            runs.append((seconds, cpu, peak.megabytes))
        seconds, cpu, megabytes = min(runs)
        plain = min(products.seconds(threads) for _ in range(repeat))
        costs.append(Cost(node.name, seconds, cpu, products.operations, plain, megabytes))
        if node.name == "asr":
            recognised: tuple[Word, ...] = artifacts["asr"]
            words = [word.text for word in recognised]
    return costs, words


def ask_funasr(speech: Path, models: dict[str, Path], threads: int, repeat: int) -> dict[str, Any]:
    """What FunASR says of the same audio and weights; see `speed_funasr`."""
    command = [sys.executable, "-m", "benchmarks.speed_funasr", str(speech)]
    command += [str(threads), str(repeat)]
    command += [f"{stage}={models[stage]}" for stage in PEER_STAGES]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"FunASR failed: {done.stderr[-2000:]}")
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def with_peer(cost: Cost, seconds: dict[str, float]) -> Cost:
    return Cost(**(asdict(cost) | {"peer": seconds.get(cost.stage, 0.0)}))


def differing(words: list[str], tokens: list[list[str]]) -> int:
    """How many words are not in both, tokens of segments joined as Hansard joins them: FunASR drops
    pieces of words that have no end, which trained networks hardly ever write."""
    theirs = [
        word.text
        for segment in tokens
        for word in join_tokens([Word(token, 0, 0, 1.0) for token in segment])
    ]
    ours, others = Counter(words), Counter(theirs)
    return ((ours - others) + (others - ours)).total()


def show(result: Result) -> None:
    whole, audio = result.whole, result.whole.audio
    title = f"{result.profile}: {audio / 60:.1f} min, {result.threads} threads"
    table = Table(title=title)
    for column in ("stage", "s", "RTFx", "share %", "CPU s", "GFLOP", "GFLOP/s"):
        table.add_column(column, justify="left" if column == "stage" else "right")
    for column in ("plain products s", "of them %", "MB more", "FunASR s", "FunASR / ours"):
        table.add_column(column, justify="right")
    for cost in [*result.costs, total(result)]:
        table.add_row(*row(cost, audio, whole.seconds))
    console = Console(width=None if sys.stdout.isatty() else 140)
    console.print(table)
    if result.peer:
        peer = result.peer["whole"]
        like = whole.seconds - whole.stages["emotion"]
        console.print(
            f"FunASR: {peer / audio:.4f} s a second of audio, peak memory "
            f"{result.peer['peak_mb']:.0f} MB; ours {whole.seconds / audio:.4f}: "
            f"{peer / whole.seconds:.2f} times its throughput; without emotion, which it has not, "
            f"{like / audio:.4f}: {peer / like:.2f} times; of {result.words} words "
            f"{result.differing} differ"
        )


def total(result: Result) -> Cost:
    """Of the whole, records and exports included."""
    costs, whole = result.costs, result.whole
    return Cost(
        "whole",
        whole.seconds,
        whole.cpu,
        sum(cost.operations for cost in costs),
        sum(cost.products for cost in costs),
        whole.peak_mb,
        result.peer.get("whole", 0.0),
    )


def row(cost: Cost, audio: float, whole: float) -> Iterator[str]:
    """`of them %`: the seconds of plain products in those of the stage."""
    yield cost.stage
    yield f"{cost.seconds:.2f}"
    yield f"{audio / max(cost.seconds, 1e-9):.0f}"
    yield f"{100 * cost.seconds / whole:.1f}"
    yield f"{cost.cpu:.2f}"
    counted = cost.operations > 0
    yield f"{cost.operations / 1e9:.1f}" if counted else ""
    yield f"{cost.operations / 1e9 / cost.seconds:.0f}" if counted else ""
    yield f"{cost.products:.2f}" if counted else ""
    yield f"{100 * cost.products / cost.seconds:.0f}" if counted else ""
    yield f"{cost.peak_mb:.0f}"
    yield f"{cost.peer:.2f}" if cost.peer else ""
    yield f"{cost.peer / cost.seconds:.1f}" if cost.peer else ""


if __name__ == "__main__":
    main()
