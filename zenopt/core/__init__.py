"""What everything else is derived from: descriptions of networks, counts, budgets, statistics, files, names. Pure
Python.
"""
