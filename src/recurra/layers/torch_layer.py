"""What the drop-in LSTM, GRU and RNN share: torch's constructor and results around Recurra's recurrences, and the options."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence

from recurra.cells.noise import check_rate, draw_noise, drop_weights
from recurra.errors import SettingsError
from recurra.kernels.backend import Choice, Needs, choose
from recurra.kernels.directions import Direction, run_directions
from recurra.kernels.loop import RecurrentNoise, Resets
from recurra.layers.directions import reversed_reset
from recurra.layers.dropout import drop_locked, drop_steps
from recurra.layers.gates import GateRecorder
from recurra.layers.torch_call import Call, autocasts, read_call, run_packed, torch_class
from recurra.shapes import Bool, Int, Tensor

__all__ = ["OPTIONS", "Operation", "TorchLayer"]

OPTIONS = ("layer_norm", "variational_dropout", "recurrent_dropout", "weight_dropout", "zoneout", "learn_initial_state", "backend")
PARAMETERS = {"w_ih": "weight_ih", "w_hh": "weight_hh", "b_ih": "bias_ih", "b_hh": "bias_hh", "w_hr": "weight_hr"}
"""torch's names of the kernels' weights; all others have one name."""


class Operation(NamedTuple):
    """The recurrence that a layer runs.

    Attributes:
        name: of the operation in `recurra.kernels`.
        run: `(x, state, weights, *, lengths, resets, reverse, noise, backend) -> (output, state)`.
        weights: NamedTuple of its weights.
        state: NamedTuple of its state.
    """

    name: str
    run: Callable[..., tuple[Tensor, Any]]
    weights: type[Any]
    state: type[Any]


class TorchLayer(nn.RNNBase):
    """The part of the drop-in layers that they share; see `recurra.layers.LSTM`. Abstract: a layer says which operation it runs.

    The options stand as defaults on the class, so that a torch layer whose class is exchanged (`recurra.accelerate`) has
    them without having been built here.
    """

    layer_norm: bool = False
    variational_dropout: float = 0.0
    recurrent_dropout: float = 0.0
    weight_dropout: float = 0.0
    zoneout: float = 0.0
    learn_initial_state: bool = False
    backend: str = "auto"
    weight_ih_l0: Tensor

    def _operation(self) -> Operation:
        raise NotImplementedError(f"{type(self).__name__} does not say which recurrence it runs.")

    def _set_options(
        self,
        *,
        layer_norm: bool = False,
        variational_dropout: float,
        recurrent_dropout: float,
        weight_dropout: float,
        zoneout: float,
        learn_initial_state: bool,
        backend: str,
    ) -> None:
        """Check the options and make the parameters that they need; torch's own are there already."""
        rates = {"variational": variational_dropout, "recurrent": recurrent_dropout, "weight": weight_dropout}
        for name, rate in {**{f"{name}_dropout": rate for name, rate in rates.items()}, "zoneout": zoneout}.items():
            check_rate(name, rate)
            setattr(self, name, rate)
        self.layer_norm = layer_norm
        self.learn_initial_state = learn_initial_state
        self.backend = backend
        if layer_norm and self.proj_size:
            raise SettingsError("There is no layer-normalized LSTM with projections: leave out `layer_norm` or `proj_size`.")
        # An option that the named backend lacks is refused here, not in the first epoch. The device is known in a call.
        choose(self._operation().name, backend, self._needs(training=True), device=None)
        like, suffixes = next(self.parameters()), self._suffixes()
        extra = [name for name in self._operation().weights._fields if name not in PARAMETERS]
        for name, suffix in ((name, suffix) for suffix in suffixes for name in extra):
            size = self.hidden_size if name.endswith("_c") else len(like)
            self.register_parameter(f"{name}_{suffix}", nn.Parameter(like.new_empty(size)))
        if learn_initial_state:
            for field, size in self._state_sizes().items():
                self.register_parameter(f"initial_{field}", nn.Parameter(like.new_empty(len(suffixes), size)))
        self._start()

    def reset_parameters(self) -> None:
        """Draw the weights anew as torch does, and set what the options set."""
        super().reset_parameters()
        self._start()

    @torch.no_grad()
    def _start(self) -> None:
        for name, parameter in self.named_parameters():
            if name.startswith("gain_"):
                parameter.fill_(1.0)
            elif name.startswith(("initial_", "bias_c_")):
                parameter.zero_()

    def check_input(self, input: Tensor, batch_sizes: Tensor | None) -> None:  # noqa: A002 - torch's name
        """As torch checks it, but with the type read from the weight that is used (torch reads one that may be replaced).

        Raises:
            ValueError: the input is not of the weights' type.
            RuntimeError: the number of dimensions or the last one is wrong.
        """
        weight = self.weight_ih_l0
        if input.dtype != weight.dtype and not autocasts(input.device):
            raise ValueError(
                f"RNN input dtype ({input.dtype}) does not match weight dtype ({weight.dtype}). "
                f"Convert input: input.to({weight.dtype}), or convert model: model.to({input.dtype})"
            )
        expected = 3 if batch_sizes is None else 2
        if input.dim() != expected:
            raise RuntimeError(f"input must have {expected} dimensions, got {input.dim()}")
        if input.shape[-1] != self.input_size:
            raise RuntimeError(f"input.size(-1) must be equal to input_size. Expected {self.input_size}, got {input.shape[-1]}")

    def forward(
        self,
        input: Tensor | PackedSequence,  # noqa: A002 - torch's name
        hx: Any = None,
        *,
        lengths: Int[Tensor, "..."] | None = None,
        reset: Bool[Tensor, "..."] | None = None,
    ) -> tuple[Any, Any]:
        """All layers over all steps; arguments and results are torch's, and two more arguments.

        Args:
            input: (T, B, F), with batch_first (B, T, F), of one sequence (T, F), or packed.
            hx: state before the first step: (L*D, B, H), of one sequence (L*D, H); for the LSTM a pair of these. When None
                zeros, or what is learned.
            lengths: (B,) real steps of each row, on any device, unsorted, 0 allowed; None when all are real. What stands
                in the padding means nothing (NaN included).
            reset: true where a new sequence begins inside a row and the state starts anew before the step is read: (T, B),
                with batch_first (B, T), of one sequence (T,); of a packed sequence as if it were padded. The backward
                direction starts anew where the sequence before it ends.

        Returns:
            Outputs of the last layer in the form of the input, zero in the padding, and the last states: (L*D, B, H), of one
            sequence (L*D, H); for the LSTM a pair of these.

        Raises:
            ValueError, RuntimeError: sizes, types or devices that do not fit, as torch raises them.
            BackendUnavailable: the backend named cannot run this call.
        """
        chosen = self._choose_for(input, lengths, reset)
        if chosen.backend == "torch" and lengths is None:
            result: tuple[Any, Any] = super().forward(input, self._learned_start(input) if hx is None else hx)
            return result
        call = read_call(self, input, hx, lengths, reset)
        if chosen.backend == "torch":
            output, last = run_packed(super().forward, call, self._initial(call.x.shape[0], call.x) if call.hidden is None else call.hidden)
        else:
            output, last = self._run(call, self._operation().run, self.backend)
        return call.steps(output), call.state(last)

    def _run(self, call: Call, run: Callable[..., tuple[Tensor, Any]], backend: str) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Layer over layer, direction beside direction: outputs (B, T, D*H) and last states (L*D, B, H)."""
        operation, x = self._operation(), call.x
        starts = self._initial(x.shape[0], x) if call.reset is not None or call.hidden is None else ()
        hidden = starts if call.hidden is None else call.hidden
        directions = 2 if self.bidirectional else 1
        last = []
        for layer in range(self.num_layers):
            if self.training:
                x = drop_locked(drop_steps(x, self.dropout) if layer else x, self.variational_dropout)
            calls = []
            for direction in range(directions):
                number = layer * directions + direction
                resets = None
                if call.reset is not None:
                    where = reversed_reset(call.reset, call.lengths) if direction else call.reset
                    resets = Resets(where, operation.state(*(field[number] for field in starts)))
                state = operation.state(*(field[number] for field in hidden))
                calls.append(Direction(state, self._weights(number, operation), resets, self._noise(x), direction == 1))
            x, after = run_directions(operation.name, run, x, calls, lengths=call.lengths, backend=backend)
            last.extend(after)
        if len(last) == 1:
            return x, tuple([field[None] for field in last[0]])
        return x, tuple(torch.stack(field) for field in zip(*last, strict=True))

    def _gates(self, equations: Callable[..., Any], call: Call) -> tuple[Any, ...]:
        """What `equations` of `recurra.layers.gates` give for each layer and direction, in the form of the input."""
        recorder = GateRecorder(self._operation().run, equations)
        self._run(call, recorder, "reference")
        return tuple(type(gates)(*map(call.steps, gates)) for gates in recorder.found)

    def _weights(self, number: int, operation: Operation) -> Any:
        """The weights of one layer and direction as they are now: parametrizations and replaced parameters count."""
        suffix = self._suffixes()[number]
        weights = operation.weights(*(self._weight(field, suffix) for field in operation.weights._fields))
        return weights._replace(w_hh=drop_weights(weights.w_hh, self.weight_dropout)) if self.training else weights

    def _weight(self, field: str, suffix: str) -> Tensor:
        if not self.bias and field in {"b_ih", "b_hh"}:
            return self.weight_ih_l0.new_zeros(len(self.weight_ih_l0))
        found: Tensor = getattr(self, f"{PARAMETERS.get(field, field)}_{suffix}")
        return found

    def _noise(self, x: Tensor) -> RecurrentNoise | None:
        return draw_noise(
            x,
            tuple(self._state_sizes().values()),
            recurrent_dropout=self.recurrent_dropout,
            zoneout=self.zoneout,
            training=self.training,
        )

    def _initial(self, rows: int, like: Tensor) -> tuple[Tensor, ...]:
        """The state before the first step, (L*D, B, H) each."""
        if self.learn_initial_state:
            return tuple(getattr(self, f"initial_{field}")[:, None].expand(-1, rows, -1) for field in self._state_sizes())
        return tuple(like.new_zeros(len(self._suffixes()), rows, size) for size in self._state_sizes().values())

    def _learned_start(self, given: Tensor | PackedSequence) -> Any:
        """What torch's own forward takes as `hx`; None when nothing is learned."""
        if not self.learn_initial_state:
            return None
        if isinstance(given, PackedSequence):
            rows = int(given.batch_sizes[0])
        else:
            rows = 1 if given.dim() == 2 else given.shape[0 if self.batch_first else 1]
        fields = tuple(field.contiguous() for field in self._initial(rows, self.weight_ih_l0))
        if not isinstance(given, PackedSequence) and given.dim() == 2:
            fields = tuple(field[:, 0] for field in fields)
        return fields if len(fields) > 1 else fields[0]

    def _state_sizes(self) -> dict[str, int]:
        sizes = dict.fromkeys(self._operation().state._fields, self.hidden_size)
        return {**sizes, "h": self.proj_size or self.hidden_size}

    def _suffixes(self) -> list[str]:
        """What ends the names of each layer's and direction's weights: l0, l0_reverse, l1 and so on."""
        endings = ("", "_reverse") if self.bidirectional else ("",)
        return [f"l{layer}{ending}" for layer in range(self.num_layers) for ending in endings]

    def explain_backend(
        self,
        input: Tensor | PackedSequence | None = None,  # noqa: A002 - as in forward
        *,
        lengths: Int[Tensor, "..."] | None = None,
        reset: Bool[Tensor, "..."] | None = None,
    ) -> str:
        """What computes each layer and direction as the module stands (training or evaluation), and why; a line for each.

        Args:
            input: what `forward` would be called with; None for a long sequence where the weights are.
            lengths: what `forward` would be called with.
            reset: what `forward` would be called with.
        """
        chosen = self._choose_for(input, lengths, reset)
        names = []
        for suffix in self._suffixes():
            layer, _, backward = suffix.partition("_")
            names.append(f"layer {layer[1:]}" + (" backward" if backward else " forward" if self.bidirectional else ""))
        return "\n".join(f"{name}: {type(self).__name__} runs on {chosen.backend}: {chosen.reason}" for name in names)

    def _choose_for(self, given: Tensor | PackedSequence | None, lengths: Tensor | None, reset: Tensor | None) -> Choice:
        """The backend of a call; "torch" is torch's own layer."""
        data, shape = self.weight_ih_l0, None
        if isinstance(given, PackedSequence):
            data, shape = given.data, (int(given.batch_sizes[0]), len(given.batch_sizes))
        elif given is not None:
            rows, steps = (1, given.shape[0]) if given.dim() == 2 else given.shape[:2] if self.batch_first else given.shape[1::-1]
            data, shape = given, (rows, steps)
        operation, needs = self._operation().name, self._needs(training=self.training, reset=reset is not None)
        chosen = choose(operation, self.backend, needs, device=data.device.type, shape=shape)
        noisy = self.training and (self.recurrent_dropout or self.weight_dropout or self.variational_dropout)
        if self.backend != "auto" or noisy or self.zoneout or self.layer_norm or reset is not None:
            return chosen
        if data.device.type != "cpu":
            return Choice("torch", f"no option beyond torch's is in force, and its own layer is fastest on {data.device.type}")
        leaves = torch.jit.is_tracing() or torch.compiler.is_exporting()  # type: ignore[attr-defined, no-untyped-call]
        if leaves and lengths is None and not self._any_steps(data):
            return Choice("torch", "no option beyond torch's is in force, and a graph that leaves Python holds torch's own operation")
        if self.proj_size and choose(operation, "auto", needs, device="cpu").backend == "reference":
            return Choice("torch", "no option beyond torch's is in force, and the compiled kernels are not installed")
        return chosen

    def _any_steps(self, data: Tensor) -> bool:
        """Whether a graph is made for any number of steps, which torch's own operation would fix at those of the example."""
        return isinstance(data.shape[1 if self.batch_first and data.dim() == 3 else 0], torch.SymInt)

    def _needs(self, *, training: bool, reset: bool = False) -> Needs:
        return Needs(recurrent_dropout=training and self.recurrent_dropout > 0, zoneout=self.zoneout > 0, reset=reset)

    def extra_repr(self) -> str:
        """Sizes, and the options that are not at their default."""
        changed = [name for name in OPTIONS if getattr(self, name) != getattr(TorchLayer, name)]
        return ", ".join([super().extra_repr(), *(f"{name}={getattr(self, name)!r}" for name in changed)])

    def __prepare_scriptable__(self) -> nn.Module:
        """What torch.jit.script compiles in this layer's place: torch's own, with the same parameters.

        Raises:
            SettingsError: an option makes this another layer.
        """
        changed = [name for name in OPTIONS if getattr(self, name) and name != "backend"]
        if changed:
            raise SettingsError(
                f"torch.jit.script knows torch's own layers only, and this one has {', '.join(changed)}: use torch.compile."
            )
        plain = copy.copy(self)
        plain.__class__ = torch_class(self)  # type: ignore[assignment]
        return plain
