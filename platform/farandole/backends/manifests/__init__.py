"""From a job to the objects of Kubernetes that run it: pure functions, the same input gives the same objects."""

from farandole.backends.manifests.names import new_id
from farandole.backends.manifests.render import render
from farandole.backends.manifests.submission import Code, Keys, Submission

__all__ = ["Code", "Keys", "Submission", "new_id", "render"]
