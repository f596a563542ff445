"""What the scheduler is made of: one concept a file."""
