"""Compiled loops: arrays in, arrays out, and nothing else.

A kernel validates nothing, seeds nothing, allocates nothing per replica and prints
nothing. It writes to an output argument and says how many draws it consumes, in which
order. Sums run over a fixed number of lanes, so that their last bit is that of the same
program on every run.
"""
