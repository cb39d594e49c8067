"""Checks of an installation, its data and its runs, one file a check; `m3pc doctor` shows what they find.

A check is a function that returns rows and changes nothing outside temporary folders. What needs Ray is in
`actors/diagnosis.py`.
"""
