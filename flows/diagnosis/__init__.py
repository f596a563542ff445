"""What ``doctor`` looks at: one file for each check, ``checks.py`` lists and runs them.

To add a check: a file here with a function that takes an ``Examination`` and yields findings, a
line in ``checks.CHECKS``, and a test in ``tests/flows/``.
"""
