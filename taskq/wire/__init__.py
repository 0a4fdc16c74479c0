"""Bytes: what travels, and what it may be made of.

`envelope` is a task on its way, `outcome` what became of it, `codecs` the
formats of arguments and values, `tagged` the types beyond JSON's, and
`failures` exceptions as data. Specified in ``docs/reference/wire.md``; golden
files in the tests keep every released version readable.
"""
