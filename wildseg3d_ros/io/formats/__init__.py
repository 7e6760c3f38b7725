"""Formats of folders: what a folder holds says which it is.

base: what an adapter is, and what adapters share.
choosing: which format a folder has.
Each other module reads one format (docs/reference/formats.md has the table).
"""
