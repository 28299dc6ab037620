"""
Executed in its own place by what `leeroy crashtest` starts: python bound.py PARENT WORD …

The kernel kills what is executed when PARENT, which started this, dies: a
crash test that is itself killed leaves no server behind.  Standard library
only, and nothing of Leeroy: it is executed as a file, before every start.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main(parent: int, words: list[str]) -> None:
    """Become *words*; end at once where *parent* is gone already."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() == parent:
        os.execvp(words[0], words)  # noqa: S606 - the words are the crash test's own


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
