"""A session in service: each click costs one step of the recurrence, and the state survives a restart."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from safetensors import SafetensorError
from safetensors.numpy import load as load_arrays
from safetensors.numpy import save as save_arrays

from recurra.data.columns import as_names
from recurra.data.store import Ragged
from recurra.data.surrogates import without_surrogates
from recurra.errors import DataError
from recurra.features.items import ItemVocabulary, gap_numbers
from recurra.files import replacing
from recurra.layers.stepper import Stepper
from recurra.model.recommend.batch import Seen
from recurra.model.recommend.best import best_items, require_top
from recurra.model.recommend.network import RecommendNetwork
from recurra.model.recommend.top import ApproximateTop, ExactTop
from recurra.shapes import Float, Tensor

__all__ = ["RecommenderSession"]


class RecommenderSession:
    """One session that goes on click by click; its recommendations equal those of `Recommender.recommend` over all its clicks.

    The state holds numbers of fixed size (the recurrence) and the items clicked, nothing else.

    Args:
        network: trained; later changes of its recurrence do not reach the session.
        items: its vocabulary.
        search: what finds the best items.
        exclude_seen: leave out what was clicked, unless `recommend` says otherwise.
    """

    def __init__(
        self, network: RecommendNetwork, items: ItemVocabulary, *, search: ExactTop | ApproximateTop, exclude_seen: bool = False
    ) -> None:
        self._network = network
        self._items = items
        self._search = search
        self._exclude_seen = exclude_seen
        self._stepper = Stepper(network.encoder)
        self._output: Tensor | None = None
        self._seen: list[int] = []
        self._time = np.nan

    @property
    def clicks(self) -> list[str]:
        """The items clicked so far that the model knows, in order."""
        names = self._items.names
        return [names[number] for number in self._seen]

    def click(self, item: str | int, *, time: float | None = None) -> bool:
        """The next click.

        Args:
            item: what was clicked.
            time: when, in the unit of the training's time column (dates: microseconds since 1970); needed by a model that reads time gaps, and by no other.

        Returns:
            Whether the model knows the item. A click on one that it does not know is stepped over.

        Raises:
            DataError: a time is missing, no number, earlier than the one before, or of no use to the model.
        """
        if (time is not None) != (self._network.gaps is not None):
            raise DataError(
                "This model reads no times: leave `time` out."
                if time is not None
                else "This model reads the time between clicks: give `time`."
            )
        if time is not None and not _is_finite(time):
            raise DataError(
                f"time={time!r} is no number: give the time in the unit of the training's column, dates as microseconds since 1970."
            )
        if time is not None and time < self._time:
            raise DataError(f"A click at {time} cannot follow one at {self._time}: times ascend.")
        known = self._items.number_by_name
        # a name as it stands is looked up at once; 7.0 and " 7 " are the item "7" too
        name = item if isinstance(item, str) and item in known else as_names(pl.Series([without_surrogates(item)]))[0]
        number = known.get(name)
        gap = 0 if time is None or np.isnan(self._time) else int(gap_numbers(np.array([self._time, time]), np.array([0, 2]))[1])
        self._time = np.nan if time is None else float(time)
        if number is None:
            return False
        with torch.inference_mode():
            gaps = None if time is None else torch.tensor([[gap]])
            read = self._network.item_vectors(torch.tensor([[number]]), gaps)[:, 0]
            self._output = self._stepper.step(read)
        self._seen.append(number)
        return True

    def recommend(self, top: int = 20, *, exclude_seen: bool | None = None) -> pl.DataFrame:
        """The items that come next most probably.

        Args:
            top: items that are named.
            exclude_seen: leave out what was clicked.

        Returns:
            `rank` from 1, `item`, `score`.

        Raises:
            SettingsError: `top` is negative.
        """
        require_top(top)
        exclude = self._exclude_seen if exclude_seen is None else exclude_seen
        with torch.inference_mode():
            known = np.array(self._seen, np.int64)
            last = np.array([len(known) - 1])
            excluded = Ragged(known, np.array([0, len(known)])) if exclude else None
            seen = Seen.before(last, last + 1, known)
            found = best_items(self._network, self._search, self._vector(), min(top, len(self._items)), seen=seen, excluded=excluded)
        best, scores = found.items[0].cpu().numpy(), found.scores[0].float().cpu().numpy()
        best, scores = best[best >= 0], scores[best >= 0]
        return pl.DataFrame({"rank": np.arange(len(best)) + 1, "item": self._items.names[best], "score": scores})

    def _vector(self) -> Float[Tensor, "1 D"]:
        if self._output is None:
            return self._network.scoring.weight.new_zeros(1, self._network.embedding.output_size)
        projection = self._network.projection
        return self._output if projection is None else projection(self._output)

    def save(self, path: str | Path) -> None:
        """Write the state to a .safetensors file, which appears when it is complete.

        Raises:
            OSError: it cannot be written.
        """
        arrays: dict[str, Any] = {
            f"state{number}.{place}": field.float().cpu().numpy()
            for number, part in enumerate(self._stepper.snapshot())
            for place, field in enumerate(part)
        }
        arrays |= {"seen": np.array(self._seen, np.int64), "time": np.array([self._time])}
        if self._output is not None:
            arrays["output"] = self._output.float().cpu().numpy()
        content = save_arrays(arrays, metadata={"items": self._fingerprint()})
        with replacing(Path(path)) as file:
            file.write(content)

    def restore(self, path: str | Path) -> None:
        """Go on where `save` was called, in this process or another one.

        Raises:
            DataError: the file is no state, or one of another model.
        """
        try:
            content = Path(path).read_bytes()
            arrays = load_arrays(content)
        except (OSError, SafetensorError) as error:
            raise DataError(f"{str(path)!r} holds no state of a session: {error}.") from error
        if self._fingerprint().encode() not in content[: 8 + int.from_bytes(content[:8], "little")]:
            raise DataError(f"{str(path)!r} is the state of a session with another model: its items or sizes are others.")
        state = self._stepper.snapshot()
        fields = [[torch.from_numpy(arrays[f"state{number}.{place}"]) for place in range(len(part))] for number, part in enumerate(state)]
        self._stepper.restore(tuple(type(part)(*saved) for part, saved in zip(state, fields, strict=True)))
        self._seen = [int(number) for number in arrays["seen"]]
        self._time = float(arrays["time"][0])
        self._output = torch.from_numpy(arrays["output"]).to(self._network.scoring.weight) if "output" in arrays else None

    def _fingerprint(self) -> str:
        """Hash of what a state depends on: the items, and the weights of the recurrence."""
        digest = hashlib.blake2b(self._items.digest, digest_size=16)
        for parameter in self._network.encoder.parameters():
            digest.update(parameter.detach().float().cpu().numpy().tobytes())
        return digest.hexdigest()


def _is_finite(time: Any) -> bool:
    return isinstance(time, (int, float, np.number)) and bool(np.isfinite(time))
