"""Columns of a table as a space: networks that are known by their settings and results alone."""
