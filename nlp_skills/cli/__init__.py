"""The command line: arguments in, tables or JSON out. Decides nothing; every room may be called from here.

One module a command group. Heavy imports stay inside the commands, so that `--help` is instant.
"""
