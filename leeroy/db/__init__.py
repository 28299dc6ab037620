"""
Every line of SQL, and nothing else: no process, no HTTP, no decision.

Functions take an open connection; whoever opened it owns the transaction, so
a crash before its commit leaves everything as it was.
"""
