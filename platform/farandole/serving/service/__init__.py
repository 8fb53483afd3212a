"""The prediction service: HTTP, workers, batches, metrics, and the change between versions; hence 27 files.

`supervisor` holds the socket and starts each `worker`, whose `app` routes requests to `endpoints`. These take rows from
bodies (`rows`, `inference_protocol`), and give them to a version of the `table`, which computes them in a `batcher`.
"""

from __future__ import annotations

from farandole.serving.service.batcher import BatchLimits
from farandole.serving.service.deployment import DeploymentPlan
from farandole.serving.service.settings import RequestLimits, ServiceSettings, parse_split
from farandole.serving.service.supervisor import Address, Supervisor

__all__ = [
    "Address",
    "BatchLimits",
    "DeploymentPlan",
    "RequestLimits",
    "ServiceSettings",
    "Supervisor",
    "parse_split",
]
