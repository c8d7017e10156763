"""The model folder: what is written, how it is checked, what each complaint says.

    weights.safetensors   the network's tensors
    model.json            format, settings, features, head, and the hashes of the weights and of itself
    run.json              versions, seed, data fingerprint, metrics, timings
    README.md             the model card
    report.html           the report (written by training)

Nothing is pickled. Every file is written under a temporary name, flushed and renamed; `model.json` comes last, so that
a folder has one only when it is complete.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from recurra.errors import ModelFolderError
from recurra.files import replacing
from recurra.shapes import Tensor

__all__ = ["FORMAT", "Contents", "holds_model", "read_folder", "write_file", "write_folder", "write_run"]

FORMAT = 1
"""Version of the model folder. A newer one than this is refused; older ones are read for ever."""

WEIGHTS, MODEL, RUN, CARD = "weights.safetensors", "model.json", "run.json", "README.md"


@dataclass(frozen=True)
class Contents:
    """What a model folder holds.

    Attributes:
        weights: by name in the network.
        model: settings, features and head as JSON values.
        run: versions, seed, fingerprint, metrics, timings as JSON values.
        card: the model card, Markdown.
    """

    weights: Mapping[str, Tensor]
    model: Mapping[str, Any]
    run: Mapping[str, Any]
    card: str


def write_folder(path: Path, contents: Contents) -> None:
    """Write a model folder; files of other kinds in it stay.

    Raises:
        ModelFolderError: it cannot be written (disk full, no permission); a complete older model stays readable until
            its weights are replaced, and a mixture is detected on reading.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in contents.weights.items()}
    weights = save_tensors(tensors, metadata={"format": "pt"})
    model = {"format": FORMAT, **contents.model, "weights_sha256": hashlib.sha256(weights).hexdigest()}
    model["sha256"] = _checksum(model)
    try:
        path.mkdir(parents=True, exist_ok=True)
        write_file(path / WEIGHTS, weights)
        write_file(path / RUN, _json(contents.run))
        write_file(path / CARD, contents.card.encode())
        write_file(path / MODEL, _json(model))
    except OSError as error:
        raise ModelFolderError(
            f"The model cannot be written to {str(path)!r}: {error.strerror or error}. Free some space or choose another folder; "
            "the checkpoints of the run are kept."
        ) from error


def holds_model(path: Path) -> bool:
    """Whether a folder holds a model of ours, complete or damaged: a `model.json` with our keys, or one that cannot be read as JSON."""
    if not (path / MODEL).is_file():
        return False
    try:
        return "weights_sha256" in _read_json(path / MODEL)
    except ModelFolderError:
        return True


def read_folder(path: Path) -> Contents:
    """Read and check a model folder.

    Raises:
        ModelFolderError: it is no model folder, incomplete, altered, or of a newer version; the message says which.
    """
    if not path.is_dir():
        raise ModelFolderError(f"There is no model folder {str(path)!r}. Train one with `recurra train ... --output {path}`.")
    if not (path / MODEL).is_file():
        state = "its training has not finished: go on with --resume" if (path / "training").is_dir() else "it is not a model folder"
        raise ModelFolderError(f"{str(path)!r} holds no {MODEL}: {state}.")
    model = _read_json(path / MODEL)
    version = model.get("format")
    if not isinstance(version, int) or version > FORMAT:
        raise ModelFolderError(
            f"{str(path)!r} has format {version!r}; this version of Recurra reads up to {FORMAT}. Upgrade with `pip install --upgrade recurra`."
        )
    if _checksum(model) != model.get("sha256"):
        raise ModelFolderError(
            f"{str(path / MODEL)!r} was altered after it was written: its hash does not fit. Restore the folder or train again."
        )
    try:
        weights = (path / WEIGHTS).read_bytes()
    except OSError as error:
        raise ModelFolderError(
            f"{str(path / WEIGHTS)!r} cannot be read: {error.strerror}. The folder is incomplete: copy it again."
        ) from error
    if hashlib.sha256(weights).hexdigest() != model["weights_sha256"]:
        raise ModelFolderError(
            f"{str(path / WEIGHTS)!r} ({len(weights):,} bytes) is truncated or was altered: its hash does not fit. Copy the folder again or train again."
        )
    try:
        tensors = load_tensors(weights)
    except SafetensorError as error:
        raise ModelFolderError(f"{str(path / WEIGHTS)!r} cannot be read: {error}.") from error
    run = _read_json(path / RUN) if (path / RUN).is_file() else {}
    card = (path / CARD).read_text(encoding="utf-8", errors="replace") if (path / CARD).is_file() else ""
    return Contents(tensors, model, run, card)


def write_run(path: Path, run: Mapping[str, Any]) -> None:
    """Write `run.json` of a model folder anew; nothing else depends on it.

    Raises:
        OSError: it cannot be written.
    """
    write_file(path / RUN, _json(run))


def write_file(path: Path, content: bytes) -> None:
    """Write a file so that it is there as a whole or not at all.

    Raises:
        OSError: it cannot be written; the file that was there before is untouched.
    """
    with replacing(path) as file:
        file.write(content)


def _checksum(model: Mapping[str, Any]) -> str:
    rest = {key: value for key, value in model.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True, ensure_ascii=True).encode()).hexdigest()


def _json(value: Mapping[str, Any]) -> bytes:
    return (json.dumps(value, indent=1, ensure_ascii=True, allow_nan=False) + "\n").encode()


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelFolderError(
            f"{str(path)!r} is truncated or was altered: it is not JSON ({error}). Copy the folder again or train again."
        ) from error
    if not isinstance(value, dict):
        raise ModelFolderError(f"{str(path)!r} was altered: it must hold a JSON object. Copy the folder again or train again.")
    return value
