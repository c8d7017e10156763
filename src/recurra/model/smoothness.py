r"""What a classifier learns without labels: predictions that stay under the worst small shift of the input, and that are sure.

With \(e\) the vectors of a row's tokens, \(\sigma\) the root mean square of their features in the batch and \(p\) the predicted
classes, under one and the same dropout noise for all:

\[g = \nabla_r \mathrm{KL}(p(e) \,\|\, p(e + \sigma r)) \big|_{r = \xi d}, \quad
L_{VAT} = \mathrm{KL}(p(e) \,\|\, p(e + \sigma \epsilon g / \|g\|)), \quad L_{EM} = -\sum_c p_c \log p_c\]

where \(d\) is a random direction and the first \(p(e)\) is held constant.

Source: Miyato et al. 2017, Adversarial Training Methods for Semi-Supervised Text Classification, equations 5 and 6 (which normalize the
vectors; here the shift is measured by them); Grandvalet & Bengio 2005, equation 8; the sum of both, Sachan et al. 2019, equation 9.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch

from recurra.data.batch import Batch, Sequence
from recurra.shapes import Float, Tensor

__all__ = ["Shifts", "entropy", "noise_state", "restore_noise", "virtual_adversarial_loss"]

Shifts = Mapping[str, Tensor]
"""By sequence feature, (B, T, F) what is added to the vectors, in multiples of the root mean square of their features."""
XI = 0.1
"""Length of the shift at which the direction is looked for."""


def noise_state(device: torch.device) -> list[Tensor]:
    """Where the generators of dropout noise stand."""
    return [torch.get_rng_state(), *([torch.cuda.get_rng_state(device)] if device.type == "cuda" else [])]


def restore_noise(state: list[Tensor], device: torch.device) -> None:
    """Let the generators go on from where they stood."""
    torch.set_rng_state(state[0])
    if device.type == "cuda":
        torch.cuda.set_rng_state(state[1], device)


def entropy(outputs: Float[Tensor, "B C"]) -> Float[Tensor, ""]:
    """Mean entropy of the predicted classes, in nats."""
    logarithms = outputs.log_softmax(1)
    return -(logarithms.exp() * logarithms).sum(1).mean()


def virtual_adversarial_loss(
    shifted: Callable[[Shifts], Float[Tensor, "B C"]],
    outputs: Float[Tensor, "B C"],
    batch: Batch,
    *,
    sizes: Mapping[str, int],
    length: float,
) -> Float[Tensor, ""]:
    """Mean divergence between the predictions of a batch and those under the worst shift.

    Args:
        shifted: the outputs with the vectors shifted, under the noise of `outputs`.
        outputs: without a shift.
        batch: the rows.
        sizes: features of a step's vector by sequence feature.
        length: of the shift, epsilon.
    """
    target = outputs.detach().log_softmax(1)
    begin = {}
    for name, size in sizes.items():
        sequence = batch.inputs[name]
        assert isinstance(sequence, Sequence)
        mask = sequence.mask.to(outputs.device)[..., None]
        begin[name] = torch.randn(*mask.shape[:2], size, device=outputs.device) * mask
    probe = {name: (XI * shift).requires_grad_() for name, shift in _unit(begin).items()}
    divergence = _divergence(target, shifted(probe)).sum()
    gradients = torch.autograd.grad(divergence, list(probe.values()))
    worst = {name: length * shift for name, shift in _unit(dict(zip(probe, gradients, strict=True))).items()}
    return _divergence(target, shifted(worst)).mean()


def _divergence(target: Float[Tensor, "B C"], outputs: Float[Tensor, "B C"]) -> Float[Tensor, " B"]:
    """KL divergence of each row's predictions from the target's, both given as logarithms (outputs up to a constant)."""
    return (target.exp() * (target - outputs.log_softmax(1))).sum(1)


def _unit(shifts: Shifts) -> dict[str, Tensor]:
    """Shifts of length one in each row, over all features together; rows of zeros stay."""
    # Divided by the largest element first: squares of tiny gradients would be lost.
    largest = torch.stack([shift.abs().amax((1, 2)) for shift in shifts.values() if shift.shape[1]]).amax(0).clamp_min(1e-30)[:, None, None]
    scaled = {name: shift / largest for name, shift in shifts.items()}
    square = torch.stack([shift.square().sum((1, 2)) for shift in scaled.values()]).sum(0)
    return {name: shift / square.sqrt().clamp_min(1e-12)[:, None, None] for name, shift in scaled.items()}
