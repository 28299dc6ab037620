"""
How fast Leeroy is, each number beside the limit of this machine, measured in the same run.

    limits    fork+exec of `sh -c true`, SQLite commits, a bare ASGI app that commits hooks
    server    a real `leeroy serve`, and what it needs for builds, hooks, output, and nothing
"""
