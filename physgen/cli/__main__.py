"""``python -m physgen.cli``."""

from physgen.cli import main

main(prog_name="physgen")
