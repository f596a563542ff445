"""What the work is: specifications, statuses, events, files that describe graphs, experiments.

This room imports none of the others.  Import from the modules; this file stays empty of code,
so that the keeper and the command line pay only for what they use.
"""
