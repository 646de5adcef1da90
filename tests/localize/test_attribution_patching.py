"""Attribution against finite differences, exact patching and completeness, in all families."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from workbench.errors import WorkbenchError
from workbench.facts.fact import Fact, FactSet
from workbench.facts.prompts import Prompt
from workbench.localize.agreement import agreement
from workbench.localize.atp_star import gradient_drop, query_key_effects
from workbench.localize.attribution_patching import attribute, attribution_patching
from workbench.localize.corruption import Noise, Pair
from workbench.localize.gradients import HOOKS, groups, node_names, path_gradients, run
from workbench.localize.localization import summarise
from workbench.localize.metrics import logit_difference, probability
from workbench.models.text import encode

PROMPT, SUBJECT = "Ada Brook plays the sport of", "Ada Brook"
