"""Rendering of the Kubernetes objects that run a job, by pure functions: the same input gives the same objects."""

from farandole.backends.kubernetes.manifests.names import new_id
from farandole.backends.kubernetes.manifests.render import render
from farandole.backends.kubernetes.manifests.submission import CodePackage, SshKeys, Submission

__all__ = ["CodePackage", "SshKeys", "Submission", "new_id", "render"]
