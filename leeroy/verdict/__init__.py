"""
The verdict: one build's record, every line of it chained to the one before by a hash.

    chain    canonical lines, their hashes, and what an edit breaks; pure
    cause    one sentence: why it ended as it did, and whose fault that was; pure
    words    a record as people read it; pure
    gather   the rows of a build made a record

Only facts that no longer change after the build's last move are in it, so the
same rows give the same head hash whenever they are asked.  The words of
format 1 never change for the same reason: new words are a new format.
"""
