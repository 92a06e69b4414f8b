"""`python -m jobs.train ...` is `v2a train ...`."""

import sys

from jobs import cli

if __name__ == "__main__":
    sys.exit(cli.main(["train", *sys.argv[1:]]))
