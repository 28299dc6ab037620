"""
What forges are told of builds: statuses, comments, deployments.

    standing    how a build's tests or a deploy stand, in a word and a sentence; pure
    comment     the one comment on a pull request; pure, strangers' text made harmless
    facts       a row of `reports` with all it takes to tell it
    reporter    the threads that tell, again and again until it is told or given up
"""
