"""`python -m jobs.compare ...` is `v2a compare ...`."""

import sys

from jobs import cli

if __name__ == "__main__":
    sys.exit(cli.main(["compare", *sys.argv[1:]]))
