"""`recurra settings`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

__all__ = ["settings"]


def settings(
    file: Annotated[Path | None, Parameter(alias="-s")] = None,
    *,
    set_: Annotated[list[str] | None, Parameter(name="--set", negative=())] = None,
    schema: Annotated[bool, Parameter(negative=())] = False,
) -> None:
    """Print every setting as YAML, defaults filled in, or the JSON schema for editors.

    Parameters
    ----------
    file
        A YAML file of settings to check and complete.
    set_
        One setting, as encoder.hidden_size=256.
    schema
        Print the JSON schema instead.
    """
    from recurra.cli.output import while_read
    from recurra.config import Settings, load_settings, parse_assignment
    from recurra.errors import SettingsError

    if schema:
        if file is not None or set_:
            raise SettingsError("The JSON schema is the same for all settings: leave the file and --set out, or --schema.")
        with while_read():
            sys.stdout.write(json.dumps(Settings.model_json_schema(), indent=1) + "\n")
        return
    import yaml

    chosen = load_settings(file, *(dict([parse_assignment(assignment)]) for assignment in set_ or []))
    with while_read():
        sys.stdout.write(yaml.safe_dump(chosen.model_dump(), sort_keys=False, allow_unicode=True))
