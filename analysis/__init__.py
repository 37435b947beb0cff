"""What is believed of an ensemble: closed forms, statistics, verdicts. Nothing simulates.

`sigprop` measures and can be trusted without any theorem; this package explains, and its
predictions carry the names of what `sigprop` measures.
"""
