"""What a person starts: flows, task runners, the command line, and the wiring between rooms."""
