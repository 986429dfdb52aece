"""Every query of the cookbook, run over simulated traffic as it stands on the page."""

from __future__ import annotations

import re
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest
from bench.cookbook import Query, Stage, queries

from worker.runtime import fill
from worker.settings import Settings
from worker.simulator import Simulator, profile
from worker.sinks import migrations
from worker.sinks.clickhouse import connect
