"""`python -m genie_rt`: the same as the command `genie-rt`."""

import sys

from genie_rt.cli import main

if __name__ == "__main__":
    sys.exit(main())
