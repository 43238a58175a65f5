"""`hansard models`: published models, what is here, pull, verify."""

from __future__ import annotations

from typing import Annotated

import typer

from jobs.options import Settings

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
Profiles = Annotated[
    list[str], typer.Argument(metavar="PROFILE...", help="Names, or paths to YAML files.")
]


@app.command("list")
def models_list(
    profiles: Annotated[
        list[str] | None, typer.Argument(metavar="[PROFILE]...", help="Default: all that come.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON list on stdout.")] = False,
) -> None:
    """What each profile needs, its size, and whether it is on this machine.

    \b
    hansard models list
    hansard models list gigaam-ru --json

    Exit codes: 0 listed, 2 the call itself was wrong.
    """
    from jobs.models.command import list_models

    raise typer.Exit(list_models(profiles or (), as_json))


@app.command("pull")
def models_pull(
    profiles: Profiles,
    settings: Settings = None,
    lock: Annotated[
        bool, typer.Option("--lock", help="Write PROFILE.lock.json: revisions and SHA-256.")
    ] = False,
) -> None:
    """Fetch the models of profiles into HANSARD_MODELS (~/.cache/hansard/models), once for all
    profiles; afterwards no network is needed. An interrupted pull goes on where it stopped.

    Every file is checked: against the profile's lock file, where there is one; else against what
    the hub lists, and its SHA-256 is recorded for `verify`.

    \b
    hansard models pull gigaam-ru
    hansard models pull mine.yaml --lock
    hansard models pull gigaam-ru --set asr.model=hub:ai-sage/GigaAM-v3@ctc
    HF_ENDPOINT=https://mirror.example hansard models pull paraformer-zh

    Exit codes: 0 all here, 1 some could not be fetched or are not as expected, 2 the call was
    wrong.
    """
    from jobs.models.command import pull_models

    raise typer.Exit(pull_models(profiles, settings or (), lock))


@app.command("verify")
def models_verify(profiles: Profiles, settings: Settings = None) -> None:
    """Hash every pulled file again, against the lock file or what was recorded on pulling.

    \b
    hansard models verify gigaam-ru

    Exit codes: 0 all as recorded, 1 something is missing or differs, 2 the call was wrong.
    """
    from jobs.models.command import verify_models

    raise typer.Exit(verify_models(profiles, settings or ()))
