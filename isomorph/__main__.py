"""`python -m isomorph`."""

from isomorph.cli import run

run()
