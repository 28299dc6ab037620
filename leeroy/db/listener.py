"""What other processes commit to PostgreSQL, heard of at once."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from leeroy.db.engine import Database


class Listener:
    """Follows PostgreSQL's NOTIFY on a connection of its own; connects again when it is lost."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="leeroy-listen", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join(timeout=3)

    def _loop(self) -> None:
        import psycopg

        url = self._database.url.set(drivername="postgresql").render_as_string(hide_password=False)
        while not self._stopped.is_set():
            try:
                with psycopg.connect(
                    url,
                    autocommit=True,
                    connect_timeout=3,
                    keepalives_idle=2,
                    keepalives_interval=1,
                    keepalives_count=3,
                    tcp_user_timeout=4000,
                ) as conn:
                    conn.execute("LISTEN leeroy")
                    # look as well: a NOTIFY sent while we connected is lost
                    self._database.tell(frozenset({"builds", "outbox"}))
                    while not self._stopped.is_set():
                        for notify in conn.notifies(timeout=1.0):
                            self._database.tell(frozenset(notify.payload.split()))
            except psycopg.Error:
                self._stopped.wait(1.0)
