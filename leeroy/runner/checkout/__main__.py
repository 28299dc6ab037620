# ruff: noqa: PTH100, PTH119, PTH120
# importing pathlib would take 3 ms of every checkout
"""
`python -I -S <this file> [--online-check] <request.json>`: the program itself.

It is started by its path, for `-I` hides the package it belongs to.  Its
modules are imported as a package of their own, from the end of the search path
so that nothing beside them can stand in for the standard library; imported
modules are compiled once, which saves every checkout some 30 ms.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module

if __name__ == "__main__":
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path.append(os.path.dirname(here))
    code = import_module(os.path.basename(here) + ".program").main(sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    # everything is written and closed; taking the interpreter apart would take 4 ms more
    os._exit(code)
