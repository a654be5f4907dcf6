"""Bit flips: one random bit of one file of a data folder is wrong, and `verify` or the start must say so.

`folder` makes a data folder with every kind of file, `trial` flips a bit and examines what is reported and what is
used, ``python -m tests.faults.bit_flips`` does so many times.
"""
