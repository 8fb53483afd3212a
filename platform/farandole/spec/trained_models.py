"""Parts of a job file that name a trained model: a teacher to learn from, or a network to prune."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, Field, ValidationInfo

from farandole.spec.base import Spec, resolve_path
from farandole.storage import is_uri

_MODEL = re.compile(r"models:/[^/@:]+(/(\d+|latest)|@[^/@]+)|models:/m-[0-9a-f]{32}|runs:/[^/]+/[^/]+")
MODEL_FORMS = "models:/NAME/VERSION, models:/NAME@ALIAS, runs:/RUN_ID/model or a bundle's directory"


def _check_model(text: str, info: ValidationInfo) -> str:
    """Return the name of a model; a directory becomes absolute, starting from the job file's folder."""
    if _MODEL.fullmatch(text):
        return text
    if text.startswith(("models:/", "runs:/")) or is_uri(text):
        raise ValueError(f"{text} is not the name of a model; use {MODEL_FORMS}")
    return resolve_path(text, info)


ModelText = Annotated[str, AfterValidator(_check_model)]
"""A model that was trained before: `models:/NAME/VERSION`, `models:/NAME@ALIAS`, `runs:/RUN_ID/model`, or the directory
of a bundle."""
Digest = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]


class Distill(Spec):
    """Knowledge distillation: the network learns from the label and from a trained model, its teacher.

    See Hinton, Vinyals and Dean 2015, arXiv 1503.02531.
    """

    teacher: ModelText
    """The teacher: `models:/NAME/VERSION`, `models:/NAME@ALIAS`, `runs:/RUN_ID/model`, or the directory of a bundle.
    Its label must be the job's, with the same classes, and its features must be in the dataset, fitted in the same
    way; the dataset may have more."""
    weight: Annotated[float, Field(gt=0, le=1)] = 0.5
    """The weight of the teacher in the loss; the label's is `1 - weight`. For classes, the teacher's part is the
    Kullback-Leibler divergence at `temperature`, times its square; for a regression, the squared difference from the
    teacher's prediction, scaled like the label."""
    temperature: Annotated[float, Field(gt=0)] = 2.0
    """The outputs of network and teacher are divided by this before they are compared. Above 1, the teacher's small
    probabilities count for more. No effect on a regression."""
    digest: Digest | None = None
    """The digest that the teacher's bundle must have. Default: that of the bundle that `teacher` names when the
    training starts first; later attempts use the same bundle, even if an alias has moved."""

    @property
    def model(self) -> str:
        """The name of the teacher."""
        return self.teacher


class Prune(Spec):
    """Pruning: the training starts from a trained model, the smallest weights of whose matrices become 0 and stay 0.

    Scores make the weights of different matrices comparable (Lee et al. 2021, arXiv 2010.07611).
    """

    model: ModelText
    """The model to prune, with the builder, the options, the features and the label of this job:
    `models:/NAME/VERSION`, `models:/NAME@ALIAS`, `runs:/RUN_ID/model`, or the directory of a bundle."""
    share: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """The share of all weights in matrices that become 0."""
    digest: Digest | None = None
    """The digest that the model's bundle must have. Default: as `train.distill.digest`."""
