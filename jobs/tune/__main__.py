"""`python -m jobs.tune ...` is `v2a tune ...`."""

import sys

from jobs import cli

if __name__ == "__main__":
    sys.exit(cli.main(["tune", *sys.argv[1:]]))
