"""Every flow that can be deployed, by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prefect import Flow

from flows.experiment import experiment
from flows.job_dag import job_dag

FLOWS: Mapping[str, Flow[..., Any]] = {flow.name: flow for flow in (job_dag, experiment)}
