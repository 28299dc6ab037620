"""
The loop that asks every row "what is due?", and carries out what was decided.

    loop       the thread: gather what ended and what is due, decide, then act
    finding    how a run ended, found out from its directory
    doing      what is done after a decision: launch, stop, make room
    starting   which queued build gets a slot, and which scripts it has
    ending     what the end of a script means for its build
    waiting    what becomes of a deploy that waits, or whose end nobody saw
    attention  how much of the time this process was really there
    acts       what follows a decision: launch a script, stop it, watch it
    specs      a step's row made a script with its environment and secrets
    following  the output of running scripts, brought into the database
    artifacts  what builds leave for deploys
    recovering what a server finds when it starts
    keeping    what is thrown away, and when
    timetable  the builds that nobody pushes: schedules

Decisions are made in transactions and touch nothing else; acts follow the
commit, and a crash between the two is found at the next start.
"""

from leeroy.scheduler.loop import Scheduler
from leeroy.scheduler.timetable import Timetable

__all__ = ["Scheduler", "Timetable"]
