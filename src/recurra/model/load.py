"""From a model folder to the trained model in it."""

from __future__ import annotations

from pathlib import Path

import torch

from recurra.config import saved_settings
from recurra.errors import ModelFolderError, SettingsError
from recurra.heads import OUTPUTS
from recurra.model.answer.model import Answerer
from recurra.model.folder import read_folder
from recurra.model.forecast.forecaster import Forecaster
from recurra.model.language.model import LanguageModel
from recurra.model.model import Model
from recurra.model.recommend.model import Recommender
from recurra.model.trained import TrainedModel
from recurra.model.translate.model import Translator

__all__ = ["load"]

HUB = "hf://"
"""Prefix of a model folder on the Hugging Face hub."""
MODELS: dict[str, type[TrainedModel]] = {
    **dict.fromkeys(OUTPUTS, Model),
    "answer": Answerer,
    "forecast": Forecaster,
    "language": LanguageModel,
    "recommend": Recommender,
    "translate": Translator,
}
"""What a folder of each task holds."""


def load(path: str | Path, *, device: str = "cpu") -> TrainedModel:
    """Load a model folder, whatever its task: a `Model`, ...

    Args:
        path: the folder, or hf://OWNER/NAME for one on the Hugging Face hub.
        device: where the network runs.

    Raises:
        ModelFolderError: it is no model folder, incomplete, altered, of a newer version, or cannot be fetched.
    """
    folder = _from_hub(str(path).removeprefix(HUB)) if str(path).startswith(HUB) else Path(path)
    contents = read_folder(folder)
    try:
        settings = saved_settings(contents.model["settings"])
        kind = MODELS[contents.model["head"]["task"]]
        with torch.random.fork_rng(devices=[]):  # the weights that a new network draws are replaced; the caller's numbers stay
            model = kind.from_state(contents.model, settings, contents.run)
    except (KeyError, SettingsError) as error:
        raise ModelFolderError(f"{str(folder)!r} cannot be understood by this version of Recurra: {error}.") from error
    try:
        model.network.load_state_dict(dict(contents.weights))
    except RuntimeError as error:
        raise ModelFolderError(f"The weights in {str(folder)!r} do not fit its settings: {error}.") from error
    model.network.to(torch.device(device))
    return model


def _from_hub(repository: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(repository))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise ModelFolderError(
            f"{HUB}{repository} cannot be fetched ({type(error).__name__}: {str(error).splitlines()[0]}). Check the name and the network, "
            "or download the folder and give its path."
        ) from error
