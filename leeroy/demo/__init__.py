"""
The whole story, live, on a throw-away repository: two pushes, one deploy stopped, one done.

Everything is real: a bare git repository with a hook that posts a signed
webhook, `leeroy serve` as a process of its own, scripts, the message with its
stop link (received by a small HTTP server here), the grace period.  It lives
in a temporary folder, and nothing is left of it.

    stage   the telephone, the repository, the server
    story   what happens on it, told as it happens
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path
from typing import TextIO

from leeroy import showing
from leeroy.demo.stage import Stage
from leeroy.demo.story import Story
from leeroy.errors import Unavailable

_GRACE_S = {True: 4, False: 20}


def run(*, once: bool, json: bool = False) -> int:
    """
    Tell the story; returns 0 when it went as told.

    With *json* it is told on stderr, and stdout gets one object: the builds it made.

    Raises:
        Unavailable: A program is missing, or the story did not go as told.
    """
    for program in ("git", "python3", "tar"):
        if shutil.which(program) is None:
            raise Unavailable(f"the demo needs {program}; install it first")
    to: TextIO = sys.stderr if json else sys.stdout
    with tempfile.TemporaryDirectory(prefix="leeroy-demo-") as folder:
        stage = Stage(Path(folder).resolve(), _GRACE_S[once])
        story = Story(stage, to)
        with stage.sink(), stage.server():
            builds = story.tell()
            if not once and sys.stdin.isatty():
                story.go_on()
    story.say("nothing is left of it but what you saw")
    if json:
        showing.as_json(builds)
    return 0
