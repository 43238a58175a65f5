"""Networks in lower precision, and on which device they compute."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from benchmarks.folders import gigaam
from benchmarks.folders.paraformer import SMALL, make_folder
from pipeline.errors import ModelError, ProfileError
from pipeline.profile import load_profile
from stages.asr.gigaam import GigaAmAsr, GigaAmParameters, GigaAmRecogniser
from stages.asr.paraformer_stage import ParaformerAsr, ParaformerParameters, ParaformerRecogniser
from stages.models import ModelFolder
from stages.precision import Int8Linear, compute_in
from tests.conftest import Here
from tests.speech import batch, segments

NO_GPU = pytest.mark.skipif(torch.cuda.is_available(), reason="for a machine without a GPU")


@pytest.mark.parametrize("bias", [True, False])
@torch.inference_mode()
def test_integers_come_near_the_linear_layer(bias: bool) -> None:
    torch.manual_seed(0)
    linear = nn.Linear(256, 512, bias=bias)
    x = torch.randn(3, 40, 256) * torch.logspace(-3, 3, 40)[None, :, None]  # quiet and loud rows
    expected, found = linear(x), Int8Linear(linear)(x)
    error = (found - expected).norm(dim=-1) / expected.norm(dim=-1)
    assert error.max() < 0.03
    assert torch.equal(Int8Linear(linear)(x[1:2, 7:9]), found[1:2, 7:9]), "whatever the batch"
    silent = Int8Linear(linear)(torch.zeros(1, 1, 256))
    assert torch.equal(silent[0, 0], linear.bias if bias else torch.zeros(512))


def test_int8_is_for_cpus() -> None:
    with pytest.raises(ModelError, match=r"asr\.precision=bfloat16"):
        compute_in("int8", torch.device("cuda"), nn.Linear(2, 2))


def test_int8_gives_a_row_the_same_in_any_batch(tmp_path: Path) -> None:
    """But for float rounding, which tips one whole number or another over to the next."""
    folder = make_folder(tmp_path, "BiCifParaformer", SMALL)
    stage = ParaformerAsr(ParaformerParameters(model=str(folder), precision="int8"))
    stage.load()
    recogniser = stage._recogniser
    assert isinstance(recogniser, ParaformerRecogniser)
    rows = segments(5)
    with torch.inference_mode():
        together = recogniser.network.encoder(*recogniser.features(*batch(*rows)))
        for row, found in zip(rows, together, strict=True):
            (alone,) = recogniser.network.encoder(*recogniser.features(*batch(row)))
            assert (found[: len(alone)] - alone).norm() < 0.005 * alone.norm()


@pytest.mark.parametrize(
    ("precision", "near"), [("float16", 0.01), ("bfloat16", 0.05), ("int8", 0.05)]
)
def test_gigaam_in_lower_precision(precision: str, near: float, tmp_path: Path) -> None:
    row = torch.from_numpy(segments(1)[0])
    folder = ModelFolder(gigaam.make_folder(tmp_path, "v2", row, layers=2, width=64))
    whole = GigaAmRecogniser.read(folder, GigaAmParameters())
    lower = GigaAmRecogniser.read(folder, GigaAmParameters(precision=precision))  # type: ignore[arg-type]
    length = torch.tensor([len(row)])
    with torch.inference_mode():
        expected, _ = whole.network(row[None], length)
        found, _ = lower.network(row[None], length)
    error = (found.float() - expected).norm() / expected.norm()
    assert 0 < error < near
    assert lower.recognise(row[None], length)[0]


def test_precision_is_part_of_a_result_and_the_device_is_not() -> None:
    def key(*settings: str) -> str:
        here = ["asr=en-ctc", "vad=fsmn-en", "embedding=campplus-en", "emotion=emotion-emodb"]
        models = [one.replace("=", ".model=bundled/") for one in here]
        return load_profile("gigaam-ru", [*models, *settings]).keys("audio")["asr"]

    assert key("asr.precision=int8") != key()
    assert key("asr.device=cpu") == key() == key("asr.device=cuda:1")


@pytest.mark.parametrize("device", ["gpu", "cuda:", "mps", "cuda:1x"])
def test_an_unknown_device_is_named(device: str) -> None:
    with pytest.raises(ProfileError, match=r"asr\.device"):
        load_profile("default", [f"asr.device={device}"])


@NO_GPU
def test_a_machine_without_a_gpu_says_so(here: Here, short: Path, tmp_path: Path) -> None:
    settings = ("--set", "asr.device=cuda")
    call = here("transcribe", short, "--out", tmp_path / "out", *settings)
    assert call.code == 2
    (line,) = call.stderr.strip().splitlines()
    assert "asr.device=cuda: " in line and "no GPUs" in line and "asr.device=cpu" in line
    stage = GigaAmAsr(GigaAmParameters(model="bundled/en-ctc", device="cuda:7"))
    with pytest.raises(ModelError, match="cuda:7"):
        stage.load()
