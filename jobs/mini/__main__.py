"""`python -m jobs.mini` trains the bundled model `mini`."""

from jobs.mini.driver import main

if __name__ == "__main__":
    main()
