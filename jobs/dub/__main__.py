"""`python -m jobs.dub ...` is `v2a dub ...`."""

import sys

from jobs import cli

if __name__ == "__main__":
    sys.exit(cli.main(["dub", *sys.argv[1:]]))
