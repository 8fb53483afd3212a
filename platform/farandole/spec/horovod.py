"""The `train.horovod` part of a job file, and the variables by which Horovod takes it."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from farandole.spec.base import Spec, non_default_fields

IDLE_CYCLE_VARIABLE = "HOROVOD_IDLE_CYCLE_TIME"


class Horovod(Spec):
    """How gradients are summed over the workers. The defaults suit one machine; what is not set is left to Horovod."""

    bucket_mib: Annotated[float, Field(gt=0)] = 25.0
    """Gradients are summed in buckets of this size, each as soon as all of its gradients are computed."""
    num_groups: Annotated[int, Field(ge=1)] | None = None
    """Instead of `bucket_mib`: so many buckets of about the same size."""
    cycle_time_ms: Annotated[float, Field(gt=0)] | None = None
    """How often Horovod looks for gradients to sum, while there are any. Default: 0.2 in the build of Horovod that
    `make setup` makes, 1 in others."""
    idle_cycle_time_ms: Annotated[float, Field(gt=0)] | None = None
    """The same while there are none; the first one wakes it. Default: 20. Other builds do not know it."""
    fusion_threshold_mib: Annotated[int, Field(ge=0)] | None = None
    """Buckets that are ready together are copied into one buffer of this size; 0: never. Horovod's default: 128."""
    cache_capacity: Annotated[int, Field(ge=0)] | None = None
    """How many tensors Horovod remembers, so that ranks agree on them in fewer bytes; 0: none. Its default: 1024."""
    autotune: bool = False
    """Let Horovod try cycle times and fusion thresholds while it trains; the first hundreds of steps are slower."""
    hierarchical_allreduce: bool = False
    """Sum within each machine first. Only for several GPUs on a machine, with NCCL and MPI in the build."""
    hierarchical_allgather: bool = False
    """The same for gathering. Only with MPI in the build."""
    predivide_factor: Annotated[float, Field(gt=0)] = 1.0
    """Gradients are divided by it before they are summed, and the sum multiplied by it: against overflow where
    `train.compression` is fp16."""
    adasum: bool = False
    """Combine gradients by Adasum (Maleki et al. 2020) instead of adding them. Only with MPI or NCCL in the build."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.num_groups is not None and non_default_fields(self, "bucket_mib"):
            raise ValueError("num_groups and bucket_mib both say how gradients are grouped; leave one out")
        if self.autotune and (named := non_default_fields(self, "cycle_time_ms", "fusion_threshold_mib")):
            raise ValueError(f"{' and '.join(named)} has no effect while autotune looks for the best; leave one out")
        if self.adasum and self.predivide_factor != 1.0:
            raise ValueError("predivide_factor has no effect on adasum, which does not add; leave one out")
        return self


def horovod_variables(spec: Horovod, *, timeline: bool = False) -> dict[str, str]:
    """The environment of workers that Horovod reads when it starts; what the user has set in the environment and not
    in the job file stays.

    Args:
        spec: What the job file says.
        timeline: Whether a worker may ask for a timeline later.
    """
    found: dict[str, str] = {"HOROVOD_TIMELINE": "DYNAMIC"} if timeline else {}
    if spec.cycle_time_ms is not None:
        found["HOROVOD_CYCLE_TIME"] = f"{spec.cycle_time_ms:g}"
    if spec.idle_cycle_time_ms is not None:
        found[IDLE_CYCLE_VARIABLE] = f"{spec.idle_cycle_time_ms:g}"
    if spec.fusion_threshold_mib is not None:
        found["HOROVOD_FUSION_THRESHOLD"] = str(spec.fusion_threshold_mib * 2**20)
    if spec.cache_capacity is not None:
        found["HOROVOD_CACHE_CAPACITY"] = str(spec.cache_capacity)
    for name in ("autotune", "hierarchical_allreduce", "hierarchical_allgather"):
        if getattr(spec, name):
            found[f"HOROVOD_{name.upper()}"] = "1"
    return found
