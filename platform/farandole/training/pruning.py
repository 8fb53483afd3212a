"""A network that starts from a trained one, most of whose weights are 0 and remain so: `train.prune`."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import nn

from farandole.bundle.network import copy_weights
from farandole.bundle.opened import Bundle
from farandole.bundle.pruning import apply_masks, magnitude_masks


class Pruning:
    """The weights of a network that stay 0.

    Their gradients are 0 as well, so that neither the optimizer's averages nor the norm that is clipped depend on them.

    Args:
        network: The network, which gets the weights of the trained one.
        bundle: The trained model.
        share: The share of the weights in matrices that is pruned.
    """

    def __init__(self, network: nn.Module, bundle: Bundle, share: float) -> None:
        copy_weights(bundle.path, network)
        self._network = network
        self._masks = magnitude_masks(network, share)
        self.apply()
        parameters = dict(network.named_parameters())
        for name in self._masks:
            if parameters[name].requires_grad:
                hook = partial(self._mask_gradient, name)
                parameters[name].register_hook(hook)  # type: ignore[no-untyped-call]

    def apply(self) -> None:
        """Set the pruned weights to 0: after each step, since an optimizer may move weights without a gradient."""
        apply_masks(self._network, self._masks)

    def _mask_gradient(self, name: str, gradient: torch.Tensor) -> torch.Tensor:
        return gradient * self._masks[name]

    def state_dict(self) -> dict[str, Any]:
        """Return the masks."""
        return dict(self._masks)

    def load_state_dict(self, state: dict[str, torch.Tensor]) -> None:
        """Restore the masks."""
        self._masks = {name: mask.to(self._masks[name].device) for name, mask in state.items()}
        self.apply()
