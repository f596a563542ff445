"""The checkpoint store: which sources of work are done, kept so that no stop can make it lie.

Import from the modules; ``lmdb`` is imported only when a store file is opened.
"""
