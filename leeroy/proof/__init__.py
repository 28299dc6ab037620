"""
The proof that a history keeps Leeroy's promises (docs/guarantees.md).

    history    what is judged: the rows, and what the scripts and callers saw themselves
    people     who uses a Leeroy under test, and what they were answered
    world      the log that scripts under test write, and the lines of shell that do it
    checker    every rule by its number, asked one after the other
    states     A, R: events, states, and what a build ends in
    tested     B: nothing is deployed that was not tested
    stopping   C: what an answer to "cancel" and the grace period mean
    places     D: one deploy at a time, and in order
    running    E: each script once, and its end known
    telling    F, G: no push lost, everybody told
    crashtest  `leeroy crashtest`: kills at random, and the checker's judgement

The rules are pure: they read a `History` and name what breaks it.
"""
