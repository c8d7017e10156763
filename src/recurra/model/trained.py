"""What every trained model is, whatever its task: settings, a network, the figures of its run, and a folder.

Not inside: what a model does with data (`model`, ...), and how the folder is written (`folder`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from recurra.config import Settings
from recurra.errors import OutputExists
from recurra.model.folder import Contents, write_folder
from recurra.model.recurrent import RecurrentNetwork

if TYPE_CHECKING:
    from recurra.model.conversation import Conversation

__all__ = ["OnError", "TrainedModel"]

OnError = Literal["fail", "skip"]
"""What happens to rows that cannot be read: an error, or they are left out and counted."""


class TrainedModel(ABC):
    """A trained model of any task.

    Args:
        settings: of the run.
        network: with trained weights.
        run: what `run.json` holds.

    Attributes:
        settings: of the run.
        network: a `torch.nn.Module`, in evaluation mode.
        run: versions, seed, data fingerprint, metrics, timings.
    """

    command: ClassVar[str]
    """The command that uses it."""
    network: RecurrentNetwork

    def __init__(self, settings: Settings, network: RecurrentNetwork, run: Mapping[str, Any] | None = None) -> None:
        self.settings = settings
        self.network = network.eval()
        self.run: dict[str, Any] = dict(run or {})

    @abstractmethod
    def evaluate(self, data: Any, *, on_error: OnError = "fail") -> dict[str, float]:
        """Measure on data with known answers.

        Args:
            data: whatever `recurra.train` takes.
            on_error: what happens to rows that cannot be read.

        Returns:
            Flat metrics: each by name, its confidence interval as `NAME_low` and `NAME_high`.
        """

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """What `model.json` holds of the fitted parts, as JSON values; `["head"]["task"]` names the task."""

    @classmethod
    @abstractmethod
    def from_state(cls, state: Mapping[str, Any], settings: Settings, run: Mapping[str, Any]) -> Self:
        """The model that `state()` described, its network as it was before training.

        Raises:
            KeyError: something is missing.
        """

    @abstractmethod
    def card(self) -> str:
        """The model card, Markdown."""

    def chat(
        self,
        *others: TrainedModel,
        answers: Mapping[str, str] | None = None,
        history: int | None = None,
        least: float | None = None,
        hand_over: str | None = None,
    ) -> Conversation:
        """Begin a dialogue; `Conversation.say` answers an utterance.

        Args:
            others: further models that take part: of replies one at most, of intents and slots any number.
            answers: what is answered to a label, by label.
            history: utterances that a reply is written to, the last ones.
            least: probability of a label or, a token, of a reply under which nothing is answered; see `recurra.model.conversation`.
            hand_over: what is answered when unsure.

        Raises:
            SettingsError: a model can take no part in a dialogue.
        """
        from recurra.model.conversation import Conversation

        return Conversation([self, *others], answers=answers, history=history, least=least, hand_over=hand_over)

    def flat_metrics(self) -> dict[str, float]:
        """All figures of the training's `run.json` in one flat dictionary: `test.accuracy`, `validation.accuracy`, ..."""
        return {f"{part}.{name}": value for part, values in self.run.get("metrics", {}).items() for name, value in values.items()}

    def save(self, path: str | Path, *, overwrite: bool = False) -> Path:
        """Write the model folder; what a training's folder holds besides (report, logs) is not copied.

        Args:
            path: folder to write.
            overwrite: replace a model that is there.

        Raises:
            OutputExists: there is something and `overwrite` is not set.
            ModelFolderError: it cannot be written.
        """
        path = Path(path)
        if not overwrite and path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise OutputExists(f"{str(path)!r} exists and is not empty: choose another folder or set overwrite.")
        contents = {"settings": self.settings.model_dump(mode="json"), **self.state()}
        write_folder(path, Contents(self.network.state_dict(), contents, self.run, self.card()))
        return path

    def push_to_hub(self, repository: str, *, private: bool = False, token: str | None = None) -> str:
        """Upload the model folder to the Hugging Face hub.

        Args:
            repository: as OWNER/NAME; made where it is not there.
            private: of a repository that is made.
            token: of the hub; the one of `hf auth login` when not given.

        Returns:
            The address of the commit.
        """
        from tempfile import TemporaryDirectory

        from huggingface_hub import HfApi

        api = HfApi(token=token)
        api.create_repo(repository, private=private, exist_ok=True)
        with TemporaryDirectory() as folder:
            self.save(folder, overwrite=True)
            return str(api.upload_folder(repo_id=repository, folder_path=folder, commit_message="A Recurra model").commit_url)
