"""The network of a bundle as an ONNX graph, computed by ONNX Runtime.

The graph has the network's groups as inputs, and the outputs of the trained network as its one output. It is one file,
of protocol buffers: it holds no code.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import nn

from farandole.bundle.predictor import Compute
from farandole.bundle.program import MappingNetwork
from farandole.errors import BundleError, UnavailableError

ONNX = "network.onnx"
_MISSING = "ONNX is missing on this machine: pip install 'farandole[serve]'"


def save_onnx(network: nn.Module, features: Mapping[str, np.ndarray], path: Path) -> None:
    """Write a network as an ONNX graph.

    Args:
        network: The network, in evaluation mode.
        features: Features of at least one row.
        path: The file.

    Raises:
        UnavailableError: The libraries for ONNX are not installed.
        Exception: torch cannot translate the network.
    """
    try:
        import onnxscript  # noqa: F401 - torch.onnx needs it, and would raise an error of its own
    except ImportError as error:
        raise UnavailableError(_MISSING) from error
    groups = {name: torch.from_numpy(values[:1].repeat(2, 0)) for name, values in features.items()}
    rows = torch.export.Dim("rows")
    quiet = contextlib.redirect_stdout(io.StringIO())
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(), quiet, torch.no_grad():
        warnings.simplefilter("ignore")  # torch warns about its own internals
        shapes = ({name: {0: rows} for name in groups},)
        exported = torch.export.export(MappingNetwork(network), (groups,), dynamic_shapes=shapes, strict=False)
        program = torch.onnx.export(
            exported, input_names=list(groups), output_names=["outputs"], dynamo=True, verbose=False
        )
        assert program is not None
        program.save(str(path), external_data=False)


def load_onnx(path: Path) -> Compute:
    """Load a graph, for one thread.

    Raises:
        UnavailableError: ONNX Runtime is not installed.
        BundleError: It cannot load the graph.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise UnavailableError(_MISSING) from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        text = " ".join(str(error).split())[:300]
        raise BundleError(f"{path}: ONNX Runtime cannot load the graph ({text}); export the model again") from error
    needed = {entry.name for entry in session.get_inputs()}

    def compute(features: dict[str, np.ndarray]) -> np.ndarray:
        given = {name: np.ascontiguousarray(values) for name, values in features.items() if name in needed}
        outputs: np.ndarray = session.run(None, given)[0]
        return outputs.astype(np.float32, copy=False)

    return compute
