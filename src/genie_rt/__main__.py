"""The process `genie-rt`, or `python -m genie_rt`: signals first, then the command line.

Signals are looked after before anything slow is imported. What is left is the interpreter's own start.
"""

import sys

from genie_rt import interrupt, streams


def main() -> int:
    """Runs the process's words and returns the exit code."""
    streams.prepare()  # or the pipe of signals gets the number of a closed stream
    interrupt.install()
    from genie_rt import cli

    try:
        code = cli.main()
    except BaseException:
        interrupt.finish()
        raise
    return interrupt.finish(code)


if __name__ == "__main__":
    sys.exit(main())
