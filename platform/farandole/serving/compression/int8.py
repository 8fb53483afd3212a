"""Eight-bit weights by ONNX Runtime: dynamic, or static with activations calibrated on validation rows.

Dynamic quantization measures the range of each activation when it computes; static quantization measures it once, on
calibration rows, and is faster where convolutions dominate. Both need a program of torch.export, converted to ONNX.
"""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from farandole.bundle import Bundle
from farandole.bundle.program import PROGRAM, load_program
from farandole.errors import BundleError, UnavailableError

METHODS = ("static", "dynamic")
FILE = "network-int8.onnx"


def quantize(bundle: Bundle, method: str, calibration: list[dict[str, np.ndarray]], target: Path) -> None:
    """Write a model with weights of eight bits as ONNX.

    Args:
        bundle: The bundle, which needs the form `program`.
        method: `static` or `dynamic`.
        calibration: For `static`: features of rows by which the ranges of activations are measured.
        target: The file to write.

    Raises:
        BundleError: The bundle has no program, or ONNX cannot express it.
        UnavailableError: ONNX Runtime is not installed.
    """
    quantization = _import_quantization()
    with tempfile.TemporaryDirectory(prefix="farandole-int8-") as scratch, _quiet():
        exported, prepared = Path(scratch, "exported.onnx"), Path(scratch, "prepared.onnx")
        export_onnx(bundle, exported)
        quantization.quant_pre_process(str(exported), str(prepared), skip_symbolic_shape=True)
        if method == "dynamic":
            quantization.quantize_dynamic(str(prepared), str(target), weight_type=quantization.QuantType.QInt8)
            return
        quantization.quantize_static(
            str(prepared),
            str(target),
            _reader(quantization, calibration),
            quant_format=quantization.QuantFormat.QDQ,
            per_channel=True,
            weight_type=quantization.QuantType.QInt8,
            activation_type=quantization.QuantType.QUInt8,
        )


def export_onnx(bundle: Bundle, target: Path) -> None:
    """Convert the program of a bundle to ONNX, with an input for each group, named like it, and any number of rows.

    Raises:
        BundleError: The bundle has no program, or ONNX cannot express it.
    """
    import torch

    if "program" not in bundle.forms:
        raise BundleError(
            f"{bundle.path}: has no form 'program', from which int8 is made: torch.export could not follow the network;"
            " the log of the training says why"
        )
    path = bundle.path / PROGRAM
    load_program(path)  # refuses a program that could run code
    preprocessing = bundle.preprocessing
    groups = list(preprocessing.features(preprocessing.raw_batch(preprocessing.example())))
    try:
        program = torch.onnx.export(
            torch.export.load(path),
            dynamo=True,
            verbose=False,
            external_data=False,
            input_names=groups,
            output_names=["outputs"],
        )
        assert program is not None
        program.save(target)
    except Exception as error:
        text = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise BundleError(f"{bundle.path}: the network has no ONNX form ({text})") from error


def _import_quantization() -> Any:
    """Return ONNX Runtime's quantization.

    Raises:
        UnavailableError: It is not installed.
    """
    try:
        import onnx  # noqa: F401 - the quantization needs it
        from onnxruntime import quantization
        from onnxruntime.quantization import shape_inference
    except ImportError as error:
        raise UnavailableError(
            f"{error.name} is not installed, and int8 needs it: pip install 'farandole[serve]'"
        ) from error
    quantization.quant_pre_process = shape_inference.quant_pre_process
    return quantization


def _reader(quantization: Any, rows: list[dict[str, np.ndarray]]) -> Any:
    """Return the calibration rows in the form that ONNX Runtime reads."""

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._rows: Iterator[dict[str, np.ndarray]] = iter(rows)

        def get_next(self) -> dict[str, np.ndarray] | None:
            """Return the next batch; None at the end."""
            return next(self._rows, None)

    return Reader()


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the libraries' reports of their internals."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
