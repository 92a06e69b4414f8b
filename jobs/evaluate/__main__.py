"""`python -m jobs.evaluate ...` is `v2a evaluate ...`."""

import sys

from jobs import cli

if __name__ == "__main__":
    sys.exit(cli.main(["evaluate", *sys.argv[1:]]))
