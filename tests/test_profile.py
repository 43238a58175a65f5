"""A profile is checked whole before anything runs, and says what is wrong where."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import pytest
import yaml

from pipeline.errors import ProfileError
from pipeline.graph import Graph
from pipeline.profile import load_profile, profile_names
from pipeline.records import SpeakerSegment, Turn
from pipeline.stage import Inputs, Parameters, Stage
from tests.conftest import ROOT, hansard


class Left(Stage[Parameters, tuple[Turn, ...]]):
    needs = ("right",)
    version = 1
    parameters_type: ClassVar[type[Parameters]] = Parameters
    artifact_type: ClassVar[Any] = tuple[Turn, ...]

    def run(self, inputs: Inputs) -> tuple[Turn, ...]:
        return ()


class Right(Stage[Parameters, tuple[SpeakerSegment, ...]]):
    needs = ("left",)
    version = 1
    parameters_type: ClassVar[type[Parameters]] = Parameters
    artifact_type: ClassVar[Any] = tuple[SpeakerSegment, ...]

    def run(self, inputs: Inputs) -> tuple[SpeakerSegment, ...]:
        return ()


def default_settings() -> dict[str, Any]:
    settings: dict[str, Any] = yaml.safe_load((ROOT / "configs" / "default.yaml").read_text())
    return settings


def write(folder: Path, settings: dict[str, Any]) -> str:
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump(settings))
    return str(path)


def keys(graph: Graph) -> dict[str, str]:
    return graph.keys("fingerprint")


@pytest.mark.parametrize("name", profile_names())
def test_every_profile_that_comes_with_hansard_is_a_graph(name: str) -> None:
    graph = load_profile(name)
    position = {node.name: i for i, node in enumerate(graph.nodes)}
    for node in graph.nodes:
        assert all(need == "audio" or position[need] < position[node.name] for need in node.needs)


def test_an_unknown_key_names_file_key_and_the_closest_known(tmp_path: Path) -> None:
    settings = default_settings()
    settings["clustering"]["speekers"] = 3
    path = write(tmp_path, settings)
    with pytest.raises(ProfileError) as error:
        load_profile(path)
    message = str(error.value)
    assert path in message
    assert "clustering.speekers" in message
    assert "did you mean 'speakers'?" in message


def test_an_unknown_key_on_the_command_line_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    call = hansard("transcribe", "x.wav", "--out", tmp_path, "--set", "clusterin.speakers=3")
    assert call.code == 2
    assert call.stderr.count("\n") == 1
    assert "did you mean 'clustering'?" in call.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("clustering.speakers=0", "clustering.speakers"),
        ("clustering.speakers=many", "clustering.speakers"),
        ("clustering", "write stage.key=value"),
        ("vad.model=/nowhere", "/nowhere"),
        ("asr.stage=stages.asr.stage:Nothing", "asr.stage"),
        ("clustering.min_speakers={", "not YAML"),
    ],
)
def test_a_wrong_override_is_named(override: str, expected: str) -> None:
    with pytest.raises(Exception, match=expected) as error:
        keys(load_profile("default", [override]))
    assert isinstance(error.value, ProfileError) or "/nowhere" in str(error.value)


def test_an_unknown_profile_lists_the_known_ones() -> None:
    with pytest.raises(ProfileError, match="did you mean 'default'"):
        load_profile("defualt")


def test_a_missing_input_is_named(tmp_path: Path) -> None:
    settings = default_settings()
    del settings["embedding"]
    with pytest.raises(ProfileError, match="clustering: needs the artifact of 'embedding'"):
        load_profile(write(tmp_path, settings))


def test_a_cycle_is_named(tmp_path: Path) -> None:
    settings = default_settings() | {
        "left": {"stage": "tests.test_profile:Left"},
        "right": {"stage": "tests.test_profile:Right"},
    }
    with pytest.raises(ProfileError, match="wait for each other: left, right"):
        load_profile(write(tmp_path, settings))


@pytest.mark.parametrize("text", ["a: [", "- a list", "", "\x00"])
def test_what_is_no_profile_is_an_error_that_names_the_file(tmp_path: Path, text: str) -> None:
    path = tmp_path / "broken.yaml"
    path.write_text(text)
    with pytest.raises(ProfileError, match=r"broken\.yaml"):
        load_profile(str(path))


def test_a_clustering_parameter_changes_only_what_follows_from_it() -> None:
    before, after = (
        keys(load_profile("default")),
        keys(load_profile("default", ["clustering.speakers=5"])),
    )
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"clustering", "overlap", "attribution", "emotion"}


def test_a_batch_size_changes_no_key() -> None:
    graph = load_profile("default")
    speed_only = [
        (node.name, name) for node in graph.nodes for name in node.stage.parameters.speed_only
    ]
    assert speed_only, "no stage says which of its parameters change the speed only"
    for stage, name in speed_only:
        value = getattr(next(n for n in graph.nodes if n.name == stage).stage.parameters, name)
        other = "cpu" if name == "device" else value + 1
        assert keys(load_profile("default", [f"{stage}.{name}={other}"])) == keys(graph)
