"""One file for each command of ``python -m flows.run``; loaded when it is called."""
