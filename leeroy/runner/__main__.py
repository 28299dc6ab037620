"""
Where the parent process starts: `python -I -S …/leeroy/runner/__main__.py RUNS`.

Run as a file, so that neither the environment nor site-packages have a say in
what it imports; the package's own folder is put last, behind the standard
library.
"""

import os
import sys

if __name__ == "__main__":
    here = os.path.abspath(__file__)  # noqa: PTH100 - pathlib would be carried along by every fork
    sys.path.append(os.path.dirname(os.path.dirname(os.path.dirname(here))))  # noqa: PTH120
    from leeroy.runner import parent

    parent.main(sys.argv[1])
