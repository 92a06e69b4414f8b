"""`python -m jobs.extract ...` is `v2a extract ...`."""

import sys

from jobs import cli

if __name__ == "__main__":
    sys.exit(cli.main(["extract", *sys.argv[1:]]))
