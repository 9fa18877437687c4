"""`python -m isomorph`."""

import sys

from isomorph.cli import main

sys.exit(main())
