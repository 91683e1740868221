"""`python -m cygnet`: the program, where no script is installed."""

import sys

from cygnet.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
