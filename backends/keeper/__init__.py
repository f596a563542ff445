"""The keeper: one small process for each run and host, the parent of all its local jobs.

It is there to clean up when the driver is not: it starts jobs, enforces their time limits,
ends whole process trees, and writes how each attempt ended to a file that outlives the driver.
It imports the standard library alone and is driven by events; nothing here polls.
"""
