"""The network of a bundle: its weights as safetensors, and the builder that creates it."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from farandole.bundle.blocks import stabilize
from farandole.bundle.predictor import Compute
from farandole.errors import BundleError
from farandole.shards import Schema

WEIGHTS = "weights.safetensors"


def save_weights(network: nn.Module, path: Path) -> None:
    """Write the parameters and buffers of a network.

    Raises:
        ValueError: The state of the network holds something that is not a tensor of a common type.
    """
    state = network.state_dict()
    other = [name for name, value in state.items() if not isinstance(value, torch.Tensor)]
    if other:
        raise ValueError(f"{other[0]} is not a tensor")
    path.touch()
    mode = path.stat().st_mode
    # Clones, since safetensors refuses tensors that share memory, as tied weights do.
    save_file({name: _as_stored(tensor.detach().cpu()).clone().contiguous() for name, tensor in state.items()}, path)
    path.chmod(mode)  # safetensors lets nobody but the user read the file


def load_network(folder: Path, builder: str, options: Mapping[str, Any], schema: Schema) -> nn.Module:
    """Build the network of a bundle, with its weights, for evaluation.

    Args:
        folder: The bundle.
        builder: `module:function`.
        options: Keyword arguments of the builder.
        schema: The columns of the dataset.

    Raises:
        BundleError: The builder cannot be used, or the weights do not fit its network.
    """
    module_name, function_name = builder.split(":")
    try:
        network: nn.Module = getattr(importlib.import_module(module_name), function_name)(schema, **options)
        _load_weights(folder, network)
    except Exception as error:
        text = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise BundleError(
            f"{folder}: the builder {builder} does not rebuild the network ({text}); use the version of Farandole that"
            " exported it, or the form `program`"
        ) from error
    return network.eval()


def _as_stored(tensor: torch.Tensor) -> torch.Tensor:
    """Return a tensor of a type that safetensors knows: complex128, which it does not, as pairs of numbers."""
    plain = tensor.resolve_conj().resolve_neg()
    return torch.view_as_real(plain) if plain.dtype == torch.complex128 else plain


def copy_weights(folder: Path, network: nn.Module) -> None:
    """Give a network the parameters and buffers of a bundle.

    Args:
        folder: The bundle.
        network: A network of the same builder and options.

    Raises:
        BundleError: The weights do not fit the network.
    """
    try:
        _load_weights(folder, network)
    except Exception as error:
        text = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise BundleError(
            f"{folder}: its weights do not fit the network ({text}); use the `model` part with which it was trained"
        ) from error


def _load_weights(folder: Path, network: nn.Module) -> None:
    weights, wanted = load_file(folder / WEIGHTS), network.state_dict()
    network.load_state_dict({name: _as_loaded(tensor, wanted.get(name)) for name, tensor in weights.items()})


def _as_loaded(stored: torch.Tensor, wanted: torch.Tensor | None) -> torch.Tensor:
    if wanted is not None and wanted.dtype == torch.complex128 and stored.dtype == torch.float64:
        return torch.view_as_complex(stored)
    return stored


def eager(network: nn.Module) -> Compute:
    """Return a network as a function of arrays, whose results do not depend on what else is in a batch.

    The function needs a multiple of `MIN_ROWS` rows, or of `LINEAR_ROWS` if layers other than torch's own are in the
    network.
    """
    stabilize(network)
    return as_function(lambda groups: network(**groups))


def as_function(call: Callable[[dict[str, torch.Tensor]], torch.Tensor]) -> Compute:
    """Return a function of tensors as one of arrays."""

    def compute(features: dict[str, np.ndarray]) -> np.ndarray:
        with torch.inference_mode():
            outputs: np.ndarray = call(as_tensors(features)).float().numpy()
        return outputs

    return compute


def add_code(folder: Path) -> None:
    """Let Python import the modules of a bundle that carries code.

    It must not write their compiled form beside them: files that the manifest does not list make a bundle invalid, and
    Python would run a compiled file without comparing it with the module.
    """
    sys.dont_write_bytecode = True
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))


def as_tensors(features: Mapping[str, np.ndarray]) -> dict[str, torch.Tensor]:
    """Return features as tensors that share their memory."""
    return {name: torch.from_numpy(np.ascontiguousarray(values)) for name, values in features.items()}
