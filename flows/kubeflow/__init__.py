"""Kubeflow Pipelines: the stages of a brief as a pipeline that a cluster runs, or this machine."""
