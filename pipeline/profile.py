"""Profiles: which stages with which parameters, from YAML to a checked graph.

Each top-level key but `language` and `resources` is a stage under its name; `stage:` (for the
audio: `source:`) says which class, as `module:Class`, and every other key is one of its parameters.
`resources` has a key a stage: see `pipeline.resources`.
"""

from __future__ import annotations

import importlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from pipeline.errors import InputError, ProfileError, closest, printable
from pipeline.graph import AUDIO, Graph, Node, giving, order
from pipeline.job import Job
from pipeline.memory import uncollected
from pipeline.records import SpeakerSegment, Turn
from pipeline.resources import Resources
from pipeline.stage import Parameters, ParametersT, Source, Stage

RESOURCES = "resources"
Settings = dict[str, Any]


def load_profile(profile: str, overrides: Iterable[str] = ()) -> Graph:
    """The graph of a named profile (in configs/) or of a YAML file, after `stage.key=value`
    overrides. ProfileError names the file, the key and the closest known key."""
    where, settings = read_profile(profile, overrides)
    language = settings.pop("language", "")
    if not isinstance(language, str) or not language:
        raise ProfileError(f"{where}: language: a code such as 'en' is missing")
    if AUDIO not in settings:
        raise ProfileError(f"{where}: {AUDIO}: this section is missing")
    source, source_parameters = _source(settings.pop(AUDIO), where)
    resources = _section(settings.pop(RESOURCES, {}), RESOURCES, where)
    stages = {name: _stage(name, section, where) for name, section in settings.items()}
    nodes = order(stages, where)
    turns, timelines = giving(Turn, nodes), giving(SpeakerSegment, nodes)
    if not turns or not timelines:
        raise ProfileError(f"{where}: a clustering and an attribution stage are missing")
    return Graph(
        profile=Path(profile).stem,
        language=language,
        source=source,
        source_parameters=source_parameters,
        nodes=nodes,
        turns=turns[-1],
        timeline=timelines[-1],
        exclusive=timelines[0],
        resources=_resources(resources, (AUDIO, *stages), where),
    )


def read_profile(profile: str, overrides: Iterable[str] = ()) -> tuple[str, Settings]:
    """The profile's name for messages, and its text with the overrides: what can be told wrong
    of it without its stages, whose import takes a second. ProfileError as of `load_profile`."""
    where, settings = _read(profile)
    for override in overrides:
        _override(settings, override)
    return where, settings


def graph_for(graph: Graph, job: Job) -> Graph:
    """The graph with the recording's own settings. Stages whose parameters stay as they are
    stay the same objects, models and all. ProfileError for a setting that does not fit,
    InputError where the recording is in another language."""
    if job.language not in ("", graph.language):
        raise InputError(
            f"{printable(job.uri)}: its language is {job.language!r}, and the profile "
            f"{graph.profile} is for {graph.language!r}: transcribe it with another --profile"
        )
    if not job.settings:
        return graph
    before: Settings = {AUDIO: graph.source_parameters.model_dump(exclude_unset=True)}
    before |= {
        node.name: node.stage.parameters.model_dump(exclude_unset=True) for node in graph.nodes
    }
    after = dict(before)
    for setting in job.settings:
        _override(after, setting)
    where = printable(job.uri)
    audio = _parameters(graph.source.parameters_type, after[AUDIO], AUDIO, where)
    nodes = tuple(
        node if after[node.name] == before[node.name] else _changed(node, after[node.name], where)
        for node in graph.nodes
    )
    return replace(graph, source_parameters=audio, nodes=nodes)


def _changed(node: Node, values: Settings, where: str) -> Node:
    kind = type(node.stage)
    return Node(node.name, kind(_parameters(kind.parameters_type, values, node.name, where)))


def profile_names() -> list[str]:
    """The profiles that come with Hansard."""
    return sorted(
        Path(entry.name).stem
        for entry in files("configs").iterdir()
        if entry.name.endswith(".yaml")
    )


def _read(profile: str) -> tuple[str, Settings]:
    if profile.endswith((".yaml", ".yml")):
        path = Path(profile).expanduser()
    else:
        path = Path(str(files("configs"))) / f"{profile}.yaml"
        if not path.is_file():
            raise ProfileError(
                f"no profile {profile!r}{closest(profile, profile_names())}; known: "
                f"{', '.join(profile_names())}, or a path to a .yaml file"
            )
    where = printable(str(path))
    try:
        settings = yaml.safe_load(path.read_text())
    except OSError as error:
        raise ProfileError(f"{where}: cannot be read: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ProfileError(f"{where}: not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(settings, dict):
        raise ProfileError(f"{where}: not a mapping of stages")
    return where, {str(key): value for key, value in settings.items()}


def _override(settings: Settings, override: str) -> None:
    path, equals, text = override.partition("=")
    section, dot, key = path.partition(".")
    if not equals or (not dot and path != "language"):
        raise ProfileError(f"--set {override}: write stage.key=value")
    if section == RESOURCES:
        settings = settings.setdefault(RESOURCES, {})
        section, dot, key = key.partition(".")
        settings.setdefault(section, {})
    if section not in settings:
        raise ProfileError(
            f"--set {override}: no stage {section!r}{closest(section, settings)}; "
            f"known: {', '.join(settings)}"
        )
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise ProfileError(f"--set {override}: the value is not YAML") from None
    if dot:
        settings[section] = {**_section(settings[section], section, "--set"), key: value}
    else:
        settings[section] = value


def _section(section: object, name: str, where: str) -> Settings:
    if not isinstance(section, Mapping):
        raise ProfileError(f"{where}: {name}: not a mapping of parameters")
    return dict(section)


def _source(section: object, where: str) -> tuple[type[Source], Parameters]:
    values = _section(section, AUDIO, where)
    cls: type[Source] = _import(values.pop("source", None), f"{where}: {AUDIO}.source")
    return cls, _parameters(cls.parameters_type, values, AUDIO, where)


def _stage(name: str, section: object, where: str) -> Stage[Any, Any]:
    values = _section(section, name, where)
    cls = _import(values.pop("stage", None), f"{where}: {name}.stage")
    if not (isinstance(cls, type) and issubclass(cls, Stage)):
        raise ProfileError(f"{where}: {name}.stage: not a stage")
    return cls(_parameters(cls.parameters_type, values, name, where))


def _resources(section: Settings, known: Collection[str], where: str) -> dict[str, Resources]:
    for name in section:
        if name not in known:
            raise ProfileError(
                f"{where}: {RESOURCES}.{name}: no such stage{closest(str(name), known)}; "
                f"known: {', '.join(known)}"
            )
    found = {name: Resources() for name in known}
    for name, values in section.items():
        place = f"{RESOURCES}.{name}"
        found[name] = _parameters(Resources, _section(values, place, where), place, where)
    return found


def _import(path: object, where: str) -> Any:
    module, _, name = str(path or "").partition(":")
    if not module or not name:
        raise ProfileError(f"{where}: write module:Class")
    try:
        with uncollected():
            return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ProfileError(f"{where}: {path}: {error}") from None


def _parameters(
    kind: type[ParametersT], values: Mapping[str, Any], name: str, where: str
) -> ParametersT:
    for key in values:
        if key not in kind.model_fields:
            raise ProfileError(
                f"{where}: {name}.{key}: unknown parameter{closest(str(key), kind.model_fields)}; "
                f"known: {', '.join(kind.model_fields)}"
            )
    try:
        return kind.model_validate(dict(values))
    except ValidationError as error:
        first, *more = error.errors()
        key = ".".join([name, *map(str, first["loc"][:1])])
        # A value of several types is refused once for each of them.
        reasons = [first["msg"], *(e["msg"] for e in more if e["loc"][:1] == first["loc"][:1])]
        value = f" {first['input']!r}:" if first["loc"] and first["type"] != "missing" else ""
        raise ProfileError(f"{where}: {key}:{value} {', or: '.join(reasons)}") from None
