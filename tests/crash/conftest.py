"""Which tests of faults are run: those with a machine of their own only in `make torture`."""

from __future__ import annotations

import os

collect_ignore = [] if os.environ.get("LEEROY_TORTURE") == "1" else ["test_power_cut_qemu.py"]
