"""
Catch-up: what was pushed while no delivery could tell of it.

    asking      a repository's branches and tags, by a process of its own with a deadline
    schedule    which repository is to be asked when
    comparing   what an answer means for a pipeline, against what was seen before
    loop        the thread that does it, off the path of everything else
    again       failed deliveries of pull requests, asked for at GitHub and GitLab once more
    network     says when the machine's way out has come back
"""
