"""Counters, histograms, and what the operating system knows about us."""
