"""The `train.horovod` part of a job file, and the environment variables that pass it to Horovod."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from farandole.spec.base import Spec, non_default_fields

IDLE_CYCLE_VARIABLE = "HOROVOD_IDLE_CYCLE_TIME"


class Horovod(Spec):
    """Summation of gradients over the workers.

    The defaults suit one machine; options that are not set keep Horovod's own defaults.
    """

    bucket_mib: Annotated[float, Field(gt=0)] = 25.0
    """The size of the buckets in which gradients are summed, each as soon as all of its gradients are computed."""
    num_groups: Annotated[int, Field(ge=1)] | None = None
    """Instead of `bucket_mib`: the number of buckets, of about equal size."""
    cycle_time_ms: Annotated[float, Field(gt=0)] | None = None
    """How often Horovod polls for gradients to sum while there are any. Default: 0.2 in the build of Horovod that
    `make setup` makes, 1 in others."""
    idle_cycle_time_ms: Annotated[float, Field(gt=0)] | None = None
    """The same while there are none; the first gradient ends the wait. Default: 20. Other builds ignore it."""
    fusion_threshold_mib: Annotated[int, Field(ge=0)] | None = None
    """Buckets that are ready together are copied into one buffer of this size; 0: never. Horovod's default: 128."""
    cache_capacity: Annotated[int, Field(ge=0)] | None = None
    """How many tensors Horovod remembers, so that ranks agree on them in fewer bytes; 0: none. Horovod's default:
    1024."""
    autotune: bool = False
    """Let Horovod try cycle times and fusion thresholds while it trains; the first hundreds of steps are slower."""
    hierarchical_allreduce: bool = False
    """Sum within each machine first. Only for several GPUs on a machine, with NCCL and MPI in the build."""
    hierarchical_allgather: bool = False
    """The same for gathering. Only with MPI in the build."""
    predivide_factor: Annotated[float, Field(gt=0)] = 1.0
    """Gradients are divided by this factor before they are summed, and the sum is multiplied by it: prevents overflow
    where `train.compression` is fp16."""
    adasum: bool = False
    """Combine gradients by Adasum (Maleki et al. 2020) instead of adding them. Only with MPI or NCCL in the build."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.num_groups is not None and non_default_fields(self, "bucket_mib"):
            raise ValueError("num_groups and bucket_mib both set how gradients are grouped; remove one")
        if self.autotune and (named := non_default_fields(self, "cycle_time_ms", "fusion_threshold_mib")):
            raise ValueError(
                f"{' and '.join(named)} has no effect with autotune, which tries values itself; remove one"
            )
        if self.adasum and self.predivide_factor != 1.0:
            raise ValueError("predivide_factor has no effect on adasum, which does not add; remove one")
        return self


def horovod_variables(spec: Horovod, *, timeline: bool = False) -> dict[str, str]:
    """Return the environment variables that Horovod reads when a worker starts.

    Options that the job file does not set are left out, so that the user's own environment applies.

    Args:
        spec: The options of the job file.
        timeline: Whether a worker may start a timeline later.
    """
    variables: dict[str, str] = {"HOROVOD_TIMELINE": "DYNAMIC"} if timeline else {}
    if spec.cycle_time_ms is not None:
        variables["HOROVOD_CYCLE_TIME"] = f"{spec.cycle_time_ms:g}"
    if spec.idle_cycle_time_ms is not None:
        variables[IDLE_CYCLE_VARIABLE] = f"{spec.idle_cycle_time_ms:g}"
    if spec.fusion_threshold_mib is not None:
        variables["HOROVOD_FUSION_THRESHOLD"] = str(spec.fusion_threshold_mib * 2**20)
    if spec.cache_capacity is not None:
        variables["HOROVOD_CACHE_CAPACITY"] = str(spec.cache_capacity)
    for name in ("autotune", "hierarchical_allreduce", "hierarchical_allgather"):
        if getattr(spec, name):
            variables[f"HOROVOD_{name.upper()}"] = "1"
    return variables
