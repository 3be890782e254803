"""Supernets: every network of a space in one set of shared weights, trained once, judged path by path."""
