"""Where and when work runs: the scheduler, the backends, the keeper.

This file stays empty of code: the keeper process imports this package and must be up in
milliseconds.
"""
