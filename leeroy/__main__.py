"""`python -m leeroy` is `leeroy`."""

from leeroy.cli import main

if __name__ == "__main__":
    main()
