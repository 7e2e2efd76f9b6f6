"""`python -m sskd_tutor` is the command line."""
import sys

from sskd_tutor.cli import main

if __name__ == '__main__': sys.exit(main())
