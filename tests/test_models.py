"""Published models: pulled from a hub and from the web, cut off, damaged, by hand, and offline."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml

from stages.model_cache import published
from tests.conftest import ROOT, Here
from tests.hub_server import COMMIT, Hub, hub_server, sha256

FSMN = ROOT / "stages" / "vad" / "bundled" / "fsmn-en"
MODEL = "hub:tests/fsmn@main"
FILES = {"am.mvn", "config.yaml", "model.safetensors"}


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub with one repository, and an empty cache of this test's own."""
    shutil.copytree(FSMN, tmp_path / "hub" / "repos" / "tests" / "fsmn")
    with hub_server(tmp_path / "hub") as running:
        running.add("repos/tests/fsmn/fig/net.png", b"a figure")
        monkeypatch.setenv("HF_ENDPOINT", running.address)
        monkeypatch.setenv("HANSARD_MODELS", str(tmp_path / "cache"))
        yield running


def profile(folder: Path, model: str) -> Path:
    """The default profile, its VAD replaced."""
    settings = yaml.safe_load((ROOT / "configs" / "default.yaml").read_text())
    settings["vad"]["model"] = model
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


def place(model: str) -> Path:
    """Where a published model belongs."""
    there = published(model)
    assert there is not None
    return there.folder


def test_pull_then_everything_works_without_network(hub: Hub, here: Here, tmp_path: Path) -> None:
    mine = profile(tmp_path, MODEL)
    speech = tmp_path / "quiet.wav"
    soundfile.write(speech, np.zeros(16000, np.float32), 16000)
    before = here("transcribe", speech, "--out", tmp_path / "out", "--profile", mine)
    assert before.code == 2
    assert "hansard models pull PROFILE" in before.stderr and str(place(MODEL)) in before.stderr

    pulled = here("models", "pull", mine)
    assert pulled.code == 0, pulled.stderr
    assert "first seen" in pulled.stderr
    here_now = {path.name for path in place(MODEL).iterdir() if not path.name.startswith(".")}
    assert here_now == FILES, "README and figures belong to no model"
    assert json.loads((place(MODEL) / ".hansard.json").read_text())["revision"] == COMMIT

    hub.process.kill()
    after = here("transcribe", speech, "--out", tmp_path / "out", "--profile", mine)
    assert after.code == 0, after.stderr
    assert here("models", "verify", mine).code == 0
    listed = json.loads(here("models", "list", mine, "--json").stdout)
    vad = next(row for row in listed if row["stage"] == "vad")
    size = sum((FSMN / name).stat().st_size for name in FILES)
    assert vad["state"] == "here" and size <= vad["bytes"] <= size + 1000
    again = here("models", "pull", mine)
    assert again.code == 0 and "already here" in again.stderr


def test_a_second_profile_shares_what_the_first_one_pulled(
    hub: Hub, here: Here, tmp_path: Path
) -> None:
    assert here("models", "pull", profile(tmp_path, MODEL)).code == 0
    asked = len(hub.asked())
    (tmp_path / "other").mkdir()
    assert here("models", "pull", profile(tmp_path / "other", MODEL)).code == 0
    assert len(hub.asked()) == asked


def test_a_cut_connection_is_gone_on_from(hub: Hub, here: Here, tmp_path: Path) -> None:
    large = hub.add("repos/tests/fsmn/model.pt", os.urandom(3 << 20))
    hub.tell(after=2 << 20, times=1)
    pulled = here("models", "pull", profile(tmp_path, MODEL))
    assert pulled.code == 0, pulled.stderr
    assert sha256(place(MODEL) / "model.pt") == sha256(large)
    assert begun(hub) >= 1 << 20


def begun(hub: Hub) -> int:
    """The byte at which the last request for model.pt began."""
    asked = [row["range"] for row in hub.asked() if row["path"].endswith("model.pt")]
    return int(asked[-1].removeprefix("bytes=").partition("-")[0] or 0)


def test_a_killed_pull_goes_on_where_it_was(hub: Hub, here: Here, tmp_path: Path) -> None:
    large = hub.add("repos/tests/fsmn/model.pt", os.urandom(6 << 20))
    mine = profile(tmp_path, MODEL)
    hub.tell(after=4 << 20, times=1, stall=True)
    command = [sys.executable, "-m", "jobs.cli", "models", "pull", str(mine)]
    first = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
    partial = place(MODEL).with_name("main.partial")
    deadline = time.monotonic() + 120
    while not any(path.stat().st_size >= 2 << 20 for path in partial.glob(".model.pt*")):
        assert first.poll() is None and time.monotonic() < deadline
        time.sleep(0.1)
    first.kill()
    first.wait()
    assert not place(MODEL).exists(), "what is half here must not look whole"
    hub.tell()
    assert here("models", "pull", mine).code == 0
    assert sha256(place(MODEL) / "model.pt") == sha256(large)
    assert begun(hub) >= 1 << 20


def test_what_is_not_what_the_hub_lists_is_refused(hub: Hub, here: Here, tmp_path: Path) -> None:
    mine = profile(tmp_path, MODEL)
    hub.tell(lie=True)
    refused = here("models", "pull", mine)
    assert refused.code == 1
    assert "arrived damaged" in refused.stderr and "Traceback" not in refused.stderr
    assert not place(MODEL).exists()
    hub.tell()
    assert here("models", "pull", mine).code == 0


def test_the_lock_file_decides(hub: Hub, here: Here, tmp_path: Path) -> None:
    mine = profile(tmp_path, MODEL)
    assert here("models", "pull", mine, "--lock").code == 0
    lock = tmp_path / "mine.lock.json"
    locked = json.loads(lock.read_text())
    assert locked[MODEL]["revision"] == COMMIT and set(locked[MODEL]["files"]) == FILES

    shutil.rmtree(place(MODEL))
    hub.add("repos/tests/fsmn/config.yaml", b"model: another\n")
    refused = here("models", "pull", mine)
    assert refused.code == 1
    assert "config.yaml: SHA-256" in refused.stderr and "mine.lock.json" in refused.stderr
    assert not place(MODEL).exists()


def test_verify_names_what_changed(hub: Hub, here: Here, tmp_path: Path) -> None:
    mine = profile(tmp_path, MODEL)
    assert here("models", "verify", mine).code == 1
    assert here("models", "pull", mine).code == 0
    (place(MODEL) / "am.mvn").write_text("changed\n")
    (place(MODEL) / "config.yaml").unlink()
    verified = here("models", "verify", mine)
    assert verified.code == 1
    assert "am.mvn: SHA-256" in verified.stdout and "config.yaml: missing" in verified.stdout
    assert here("models", "pull", mine).code == 0, "pulled again, since it is not as recorded"
    assert here("models", "verify", mine).code == 0


def test_without_network_the_way_out_is_one_line(hub: Hub, here: Here, tmp_path: Path) -> None:
    mine = profile(tmp_path, MODEL)
    hub.process.kill()
    hub.process.wait()
    failed = here("models", "pull", mine)
    assert failed.code == 1
    (line,) = failed.stderr.strip().splitlines()
    assert "cannot be fetched" in line and str(place(MODEL)) in line
    assert "tests/fsmn/tree/main" in line and "*.safetensors" in line

    shutil.copytree(FSMN, place(MODEL))  # which is what the line says
    assert here("models", "pull", mine).code == 0
    assert here("models", "verify", mine).code == 0


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        ("hub:tests/nothing", "knows no such repository or revision"),
        ("hub:tests/fsmn@v9", "knows no such repository or revision"),
    ],
)
def test_what_the_hub_does_not_know(
    hub: Hub, here: Here, tmp_path: Path, model: str, reason: str
) -> None:
    failed = here("models", "pull", profile(tmp_path, model))
    assert failed.code == 1 and reason in failed.stderr


@pytest.mark.parametrize(
    "model", ["hub:fsmn", "hub:../../etc", "http://host/model.pt", "https://host/m.pt#sha256=12"]
)
def test_names_that_are_none(here: Here, tmp_path: Path, model: str) -> None:
    failed = here("models", "pull", profile(tmp_path, model))
    assert failed.code == 2 and model.split("#")[0] in failed.stderr


def test_a_local_folder_needs_no_pull(here: Here, tmp_path: Path) -> None:
    mine = profile(tmp_path, str(FSMN))
    listed = json.loads(here("models", "list", mine, "--json").stdout)
    assert next(row for row in listed if row["stage"] == "vad")["state"] == "folder"
    assert "needs no published model" in here("models", "pull", mine).stderr
    gone = profile(tmp_path, str(tmp_path / "gone"))
    listed = json.loads(here("models", "list", gone, "--json").stdout)
    assert next(row for row in listed if row["stage"] == "vad")["state"] == "missing"


def archive(folder: Path, *more: tarfile.TarInfo) -> bytes:
    """A .tar.gz of a folder, with the folder around it."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        tar.add(folder, arcname=folder.name)
        for member in more:
            tar.addfile(member)
    return packed.getvalue()


def certificate(path: Path) -> Path:
    """A certificate for localhost, and its key."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), False)
        .sign(key, hashes.SHA256())
    )
    plain = serialization.NoEncryption()
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain
    )
    path.write_bytes(private + signed.public_bytes(serialization.Encoding.PEM))
    return path


@pytest.fixture
def secure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """The same server over https, its certificate trusted."""
    trusted = certificate(tmp_path / "localhost.pem")
    with hub_server(tmp_path / "web", trusted) as running:
        monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
        monkeypatch.setenv("HANSARD_MODELS", str(tmp_path / "cache"))
        yield running


def test_an_archive_from_an_https_address(secure: Hub, here: Here, tmp_path: Path) -> None:
    secure.add("files/fsmn.tar.gz", archive(FSMN))
    mine = profile(tmp_path, f"{secure.address}/files/fsmn.tar.gz")
    pulled = here("models", "pull", mine)
    assert pulled.code == 0, pulled.stderr
    folder = place(f"{secure.address}/files/fsmn.tar.gz")
    assert {path.name for path in folder.iterdir()} >= FILES
    assert here("models", "verify", mine).code == 0


def test_a_lost_archive_is_fetched_again(secure: Hub, here: Here, tmp_path: Path) -> None:
    """And one whose folder holds a file of the folder's own name."""
    odd = tmp_path / "fsmn"
    shutil.copytree(FSMN, odd)
    (odd / "fsmn").write_text("of the same name")
    secure.add("files/fsmn.tar.gz", archive(odd))
    model = f"{secure.address}/files/fsmn.tar.gz"
    mine = profile(tmp_path, model)
    assert here("models", "pull", mine).code == 0
    (place(model) / "config.yaml").unlink()
    again = here("models", "pull", mine)
    assert again.code == 0 and "pulled" in again.stderr
    assert (place(model) / "fsmn").is_file()


def test_an_archive_that_reaches_outside_is_refused(
    secure: Hub, here: Here, tmp_path: Path
) -> None:
    outside = tarfile.TarInfo("../../../../outside.txt")
    secure.add("files/fsmn.tar.gz", archive(FSMN, outside))
    refused = here("models", "pull", profile(tmp_path, f"{secure.address}/files/fsmn.tar.gz"))
    assert refused.code == 1 and "cannot be unpacked" in refused.stderr
    assert not list(tmp_path.rglob("outside.txt"))


def test_a_file_from_an_address_with_its_digest(hub: Hub, here: Here, tmp_path: Path) -> None:
    file = hub.add("files/model.ckpt", os.urandom(3 << 20))
    address = f"{hub.address}/files/model.ckpt"
    hub.tell(after=1 << 20, times=1)
    mine = profile(tmp_path, f"{address}#sha256={sha256(file)}")
    pulled = here("models", "pull", mine)
    assert pulled.code == 0 and "as expected" in pulled.stderr
    assert sha256(place(f"{address}#sha256={sha256(file)}") / "model.ckpt") == sha256(file)
    assert any(row["range"] == f"bytes={1 << 20}-" for row in hub.asked())

    wrong = f"{address}#sha256={'0' * 64}"
    refused = here("models", "pull", profile(tmp_path, wrong))
    assert refused.code == 1 and "thrown away" in refused.stderr
    place(wrong).mkdir(parents=True)
    shutil.copy(file, place(wrong))
    by_hand = here("models", "pull", profile(tmp_path, wrong))
    assert by_hand.code == 1, "what people put there has to be the same"


def test_the_profiles_that_come_say_what_they_need(
    here: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HANSARD_MODELS", str(tmp_path))
    listed = json.loads(here("models", "list", "--json").stdout)
    states = {(row["profile"], row["model"]): row["state"] for row in listed}
    assert states["default", "bundled/en-ctc"] == "bundled"
    gigaam = "hub:ai-sage/GigaAM-v3@cec030b4c4f35d928e4a9044a3bdb29ebd499fac"
    assert states["gigaam-ru", gigaam] == "not pulled"
    assert "missing" not in states.values()
    assert "not pulled" in here("models", "list", "gigaam-ru").stdout
