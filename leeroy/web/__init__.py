"""
The HTTP edge: requests in, answers out, and no decisions.

    app       the application: one table of routes with the role each needs
    access    who asks: tokens, the page's login, and what a loopback reader may do
    api       JSON for programs; the calls of `leeroy.calls`
    hooks     deliveries from forges
    stop      the page behind a stop link
    pages     the list, a build, environments; plain HTML
    health    healthz, readyz, metrics, badges
"""
