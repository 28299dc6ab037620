"""
Every process and every file of a step, and nothing else.

A script runs under a supervisor, a process of its own that outlives the
server and writes down how the script ended.  What the two know of each other
stands in the run directory (`data/runs/<run_id>/`), so a server that was
killed finds everything again when it is back.

    runner      what the server holds: launch, look, stop, read
    rundir      the run directory, as the server sees it
    mark        whether the folder of all runs is the one of the last start
    parent      the small process that forks supervisors        (standard library only)
    supervisor  runs one script and records its end              (standard library only)
    output      the script's output in segment files             (standard library only)
    tree        a script's descendants, and how they are ended   (standard library only)
    process     facts about processes, from /proc                (standard library only)
    wire        names of files, and the messages between the processes

The room knows no database and no builds: a run is a name, a script and an
environment.
"""
