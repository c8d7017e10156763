"""Optimizers by name, what they decay, and the clipping of gradients, dense and row-sparse alike.

Which implementation runs: torch's fused one where there is one and the device has it (measured on one core with a
30,000 x 128 embedding, AdamW: fused 4 ms a step, foreach 24 ms, loop 25 ms), else torch's own choice.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.optim import ASGD, SGD, Adafactor, Adagrad, Adam, AdamW, Muon, NAdam, Optimizer, RAdam, RMSprop, SparseAdam

from recurra.config import OptimizerSettings
from recurra.errors import SettingsError
from recurra.features.category import CategoryEmbedding
from recurra.layers import Embedding, HashedTable
from recurra.layers.item_table import ItemTable
from recurra.shapes import Tensor
from recurra.training.adagrad import AdagradMomentum
from recurra.training.recurrent import recurrent_layers

__all__ = [
    "CombinedOptimizer",
    "asgd_average",
    "build_optimizer",
    "clip_gradients",
    "gradient_norms",
    "set_learning_rate",
    "start_averaging",
]

NEVER = 2**40
"""Steps that no run reaches."""
FUSED = ("sgd", "adam", "adamw", "adagrad")
SPARSE = ("sgd", "adam", "adamw", "adagrad", "muon", "adagrad_momentum")


class CombinedOptimizer(Optimizer):
    """Several optimizers, each with its own parameters, as one.

    The groups are shared, so that a learning rate set here reaches them.
    """

    def __init__(self, optimizers: Sequence[Optimizer]) -> None:
        self.optimizers = list(optimizers)
        super().__init__([group for optimizer in self.optimizers for group in optimizer.param_groups], {})

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step of each; the closure is called once, first."""
        result = None
        if closure is not None:
            with torch.enable_grad():
                result = closure()
        for optimizer in self.optimizers:
            optimizer.step()
        return result

    def state_dict(self) -> dict[str, Any]:
        """The states of all, in order."""
        return {"optimizers": [optimizer.state_dict() for optimizer in self.optimizers]}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Continue where `state_dict` was taken."""
        for optimizer, state in zip(self.optimizers, state_dict["optimizers"], strict=True):
            optimizer.load_state_dict(state)
        self.param_groups = [group for optimizer in self.optimizers for group in optimizer.param_groups]


def build_optimizer(
    network: nn.Module,
    settings: OptimizerSettings,
    *,
    learning_rate: float,
    steps: int,
    scaled: bool = False,
    factors: Mapping[str, float] | None = None,
) -> Optimizer:
    """The optimizer of a network.

    Weight matrices decay; biases, normalization gains, initial states and embeddings do not. Embeddings with row-sparse
    gradients get an optimizer of the same family that touches only the rows of the batch: SparseAdam for adam, adamw
    and muon; Adagrad, with momentum too; SGD, there without momentum, which would make every row move at every step.

    Args:
        network: already on its device.
        settings: name and coefficients.
        learning_rate: of every group, times `embedding_factor` for embeddings; for muon the update of a matrix is scaled to the size that AdamW's would have
            (Liu et al. 2025, section 2.2), so that one rate serves both.
        steps: optimizer steps of the run. ASGD averages the weights of the second half of them, or from `start_averaging` on.
        scaled: gradients come from a loss scaler (float16), which fused implementations would not let us clip.
        factors: shares of the learning rate by the parameters' names; 1 for those not named.

    Raises:
        SettingsError: embeddings have sparse gradients and the optimizer has no row-wise form, or muon finds no
            recurrent matrix.
    """
    sparse, matrices, decayed, plain, tables = _partition(network, muon=settings.name == "muon")
    if sparse and settings.name not in SPARSE:
        raise SettingsError(
            f"optimizer.name={settings.name!r} has no form for embedding.sparse=true: use one of {', '.join(SPARSE)}, or set embedding.sparse=false (for a recommendation recommend.negatives=all)."
        )
    if settings.name == "muon" and not matrices:
        raise SettingsError("optimizer.name='muon' updates the matrices of recurrent layers, and this network has none: use adamw.")
    own = {id(parameter): (factors or {}).get(name, 1.0) for name, parameter in network.named_parameters()}
    name = "adamw" if settings.name == "muon" else settings.name
    fused = name in FUSED and not scaled and _device(network) in ("cpu", "cuda")
    optimizers: list[Optimizer] = []
    if matrices:
        optimizers.append(_muon(_by_factor(matrices, own), settings, learning_rate))
    if groups := [
        {"params": alike["params"], "weight_decay": decay, "factor": factor * alike["factor"]}
        for parameters, decay, factor in (
            (decayed, settings.weight_decay, 1.0),
            (plain, 0.0, 1.0),
            (tables, 0.0, settings.embedding_factor),
        )
        for alike in _by_factor(parameters, own)
    ]:
        optimizers.append(_dense(groups, settings.model_copy(update={"name": name}), rate=learning_rate, steps=steps, fused=fused))
    if sparse:
        rows = [{**alike, "factor": settings.embedding_factor * alike["factor"]} for alike in _by_factor(sparse, own)]
        optimizers.append(_sparse(name, rows, settings, learning_rate))
    optimizer = optimizers[0] if len(optimizers) == 1 else CombinedOptimizer(optimizers)
    set_learning_rate(optimizer, learning_rate)
    return optimizer


def _by_factor(parameters: list[nn.Parameter], factors: Mapping[int, float]) -> list[dict[str, Any]]:
    """Groups of parameters with one share of the learning rate, in the order in which these are first met."""
    groups: dict[float, list[nn.Parameter]] = {}
    for parameter in parameters:
        groups.setdefault(factors[id(parameter)], []).append(parameter)
    return [{"params": alike, "factor": factor} for factor, alike in groups.items()]


def set_learning_rate(optimizer: Optimizer, rate: float) -> None:
    """Set the rate of every group, that of embeddings by their factor."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get("factor", 1.0)
    if isinstance(optimizer, ASGD):  # torch's would take a new rate one step late
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                if "eta" in optimizer.state.get(parameter, {}):
                    optimizer.state[parameter]["eta"].fill_(group["lr"])


def _partition(network: nn.Module, *, muon: bool) -> tuple[list[nn.Parameter], ...]:
    """Trainable parameters as (sparse, for muon, decayed, not decayed, embeddings), each in the network's order."""
    recurrent = {id(p) for layer in recurrent_layers(network).values() for p in layer.parameters()} if muon else set()
    sparse: list[nn.Parameter] = []
    matrices: list[nn.Parameter] = []
    decayed: list[nn.Parameter] = []
    plain: list[nn.Parameter] = []
    tables: list[nn.Parameter] = []
    seen: set[int] = set()
    for module in network.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if not parameter.requires_grad or id(parameter) in seen:
                continue
            seen.add(id(parameter))
            if getattr(module, "sparse", False) is True and name == "weight":
                sparse.append(parameter)
            elif _is_table(module):
                tables.append(parameter)
            elif parameter.ndim < 2 or name.startswith("initial_"):
                plain.append(parameter)
            elif id(parameter) in recurrent and parameter.ndim == 2:
                matrices.append(parameter)
            else:
                decayed.append(parameter)
    return sparse, matrices, decayed, plain, tables


def _is_table(module: nn.Module) -> bool:
    """A weight whose rows are looked up: decay would pull the rare ones to zero between their visits."""
    return isinstance(module, (nn.Embedding, nn.EmbeddingBag, Embedding, HashedTable, CategoryEmbedding, ItemTable))


def _device(network: nn.Module) -> str:
    return next((parameter.device.type for parameter in network.parameters()), "cpu")


def _muon(matrices: list[dict[str, Any]], settings: OptimizerSettings, learning_rate: float) -> Optimizer:
    return Muon(matrices, lr=learning_rate, weight_decay=settings.weight_decay, momentum=settings.momentum, adjust_lr_fn="match_rms_adamw")


def _dense(groups: list[dict[str, Any]], settings: OptimizerSettings, *, rate: float, steps: int, fused: bool) -> Optimizer:
    betas = (settings.beta1, settings.beta2)
    # None and not False: the choice is torch's then, and it may be foreach
    implementation = True if fused else None
    match settings.name:
        case "sgd":
            return SGD(groups, lr=rate, momentum=settings.momentum, fused=implementation)
        case "adam":
            return Adam(groups, lr=rate, betas=betas, fused=implementation)
        case "adamw":
            return AdamW(groups, lr=rate, betas=betas, fused=implementation)
        case "adagrad":
            return Adagrad(groups, lr=rate, fused=implementation)
        case "adagrad_momentum":
            return AdagradMomentum(groups, lr=rate, momentum=settings.momentum)
        case "nadam":
            return NAdam(groups, lr=rate, betas=betas, decoupled_weight_decay=True)
        case "radam":
            return RAdam(groups, lr=rate, betas=betas, decoupled_weight_decay=True)
        case "rmsprop":
            return RMSprop(groups, lr=rate, momentum=settings.momentum)
        case "adafactor":
            return Adafactor(groups, lr=rate)
        case "asgd":
            # Its own decay of the rate (lambd) is left out: the schedule moves the rate.
            return ASGD(groups, lr=rate, lambd=0.0, t0=steps // 2 if settings.averaging == "half" else NEVER)
    raise SettingsError(f"There is no optimizer {settings.name!r}.")


def _sparse(name: str, groups: list[dict[str, Any]], settings: OptimizerSettings, learning_rate: float) -> Optimizer:
    checks: Any = torch.sparse.check_sparse_tensor_invariants
    if not checks.is_enabled():
        checks.disable()  # said aloud, or torch warns at the first step that it is so
    if name == "sgd":
        return SGD(groups, lr=learning_rate, foreach=False)
    if name == "adagrad":
        return Adagrad(groups, lr=learning_rate, foreach=False)
    if name == "adagrad_momentum":
        return AdagradMomentum(groups, lr=learning_rate, momentum=settings.momentum)
    return SparseAdam(groups, lr=learning_rate, betas=(settings.beta1, settings.beta2))


def asgd_average(optimizer: Optimizer) -> tuple[list[nn.Parameter], list[Tensor]] | None:
    """The average of the weights that ASGD keeps: its parameters and their averages; None for other optimizers.

    Source: Polyak & Juditsky 1992; only the second half of the steps is averaged, Rakhlin et al. 2012, section 4.
    """
    if not isinstance(optimizer, ASGD):
        return None
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"] if "ax" in optimizer.state[parameter]]
    return parameters, [optimizer.state[parameter]["ax"] for parameter in parameters]


def start_averaging(optimizer: Optimizer, *, step: int) -> None:
    """Let an ASGD that waits for it average the weights from here on; nothing happens to any other, or a second time.

    Args:
        optimizer: of `build_optimizer`.
        step: optimizer steps that are done.
    """
    if isinstance(optimizer, ASGD):
        for group in optimizer.param_groups:
            group["t0"] = min(group["t0"], step)


def clip_gradients(parameters: Iterable[nn.Parameter], *, norm: float = 0.0, value: float = 0.0, total: float | None = None) -> float:
    """Clip by value first, then by the norm of the whole gradient; sparse gradients by their rows.

    Args:
        parameters: whose gradients are clipped in place.
        norm: largest norm afterwards; 0 does not clip.
        value: largest absolute element afterwards; 0 does not clip.
        total: the norm of the gradient where the caller has measured it already.

    Returns:
        The norm before clipping; infinite or NaN when the gradient is, and then nothing is clipped.
    """
    values = _gradient_values(parameters)
    if not values:
        return 0.0
    if total is None:
        total = float(torch.nn.utils.get_total_norm(values))
    present = total
    if value and math.isfinite(total):
        torch._foreach_clamp_min_(values, -value)
        torch._foreach_clamp_max_(values, value)
        present = float(torch.nn.utils.get_total_norm(values)) if norm else total
    if norm and norm < present < math.inf:
        torch._foreach_mul_(values, norm / present)
    return total


def gradient_norms(network: nn.Module) -> dict[str, float]:
    """Norm of the present gradient of each module that owns parameters, by the module's name."""
    norms: dict[str, float] = {}
    for name, module in network.named_modules():
        values = _gradient_values(module.parameters(recurse=False))
        if values:
            norms[name or type(module).__name__] = float(torch.nn.utils.get_total_norm(values))
    return norms


def _gradient_values(parameters: Iterable[nn.Parameter]) -> list[Tensor]:
    """The dense gradients, and of sparse ones the rows that are there."""
    values: list[Tensor] = []
    for parameter in parameters:
        if parameter.grad is None:
            continue
        if parameter.grad.is_sparse:
            # rows that occur several times in a batch must be added up before their size means anything
            parameter.grad = parameter.grad.coalesce()
            values.append(parameter.grad._values())
        else:
            values.append(parameter.grad)
    return values
